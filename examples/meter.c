/*
 * A client for a microcontroller: it counts an order when its button is pressed, and shows the totals of a category. Plain
 * sockets, static buffers of a fixed size, no malloc. On a board, replace `show` by the display and `pressed` by the pin.
 *
 *     cc -std=c99 -Wall -Wextra -Werror -o meter examples/meter.c
 *     ./meter 127.0.0.1 3000 electronics A1
 *
 * The button is Enter here: each line of standard input is an order of 1 for A1. The program ends with its input, once all
 * orders are answered.
 */
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_BYTES = 512,    /* The longest line of the stream that is read; a longer one is passed over. */
    POSITION_BYTES = 160,
    REQUEST_BYTES = 512,
    ANSWER_SECONDS = 10,
    SILENCE_SECONDS = 40, /* The server sends something every 25 s. */
    LONGEST_WAIT_SECONDS = 15
};

static struct sockaddr_in server;
static const char *host, *port, *category, *product;

/* The stream: its socket, the line that is being read, and where it resumes. */
static int stream = -1;
static char line[LINE_BYTES];
static size_t line_length;
static bool line_is_too_long, head_is_read;
static char position[POSITION_BYTES];
static time_t heard_at, connect_at;
static unsigned wait_seconds = 1;

/* The orders. Each has a key of its own, so that a repeat counts once. */
static unsigned pressed_count, answered_count;
static unsigned long boot[2];

static void show(const char *id, long long total) {
    printf("%s %lld\n", id, total);
    fflush(stdout);
}

/* Whether the button was pressed; -1 when there is no button any more. */
static int pressed(void) {
    static char bytes[64];
    ssize_t length = read(STDIN_FILENO, bytes, sizeof bytes);
    int lines = 0;
    if (length <= 0) return -1;
    for (ssize_t at = 0; at < length; at++) lines += bytes[at] == '\n';
    return lines;
}

static int open_socket(void) {
    struct timeval deadline = {ANSWER_SECONDS, 0};
    int opened = socket(AF_INET, SOCK_STREAM, 0);
    if (opened < 0) return -1;
    setsockopt(opened, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline);
    setsockopt(opened, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline);
    if (connect(opened, (struct sockaddr *)&server, sizeof server) != 0) {
        close(opened);
        return -1;
    }
    return opened;
}

static bool send_all(int to, const char *bytes, int length) {
    while (length > 0) {
        ssize_t sent = send(to, bytes, (size_t)length, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        length -= (int)sent;
    }
    return true;
}

/* Sends one order. Returns the status of the answer, or 0 if there is none. */
static int order(unsigned number) {
    static char request[REQUEST_BYTES];
    static char answer[64];
    static const char body[] = "{\"amount\":1}";
    size_t length = 0;
    int status = 0, opened = open_socket();
    int bytes = snprintf(request, sizeof request,
                         "POST /orders/%s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n"
                         "Content-Type: application/json\r\nIdempotency-Key: \"meter-%lx-%lx-%u\"\r\n"
                         "Content-Length: %u\r\n\r\n%s",
                         product, host, port, boot[0], boot[1], number, (unsigned)(sizeof body - 1), body);
    if (opened < 0) return 0;
    if (bytes < (int)sizeof request && send_all(opened, request, bytes)) {
        while (length < sizeof answer - 1) {
            ssize_t received = recv(opened, answer + length, sizeof answer - 1 - length, 0);
            if (received <= 0) break;
            length += (size_t)received;
        }
        answer[length] = '\0';
        if (sscanf(answer, "HTTP/1.%*d %d", &status) != 1) status = 0;
    }
    close(opened);
    return status;
}

static void lose_stream(void) {
    if (stream >= 0) close(stream);
    stream = -1;
    connect_at = time(NULL) + (time_t)wait_seconds;
    wait_seconds = 2 * wait_seconds > LONGEST_WAIT_SECONDS ? LONGEST_WAIT_SECONDS : 2 * wait_seconds;
}

static void connect_stream(void) {
    static char request[REQUEST_BYTES];
    bool resumes = position[0] != '\0';
    int bytes = snprintf(request, sizeof request,
                         "GET /orders/%s HTTP/1.1\r\nHost: %s:%s\r\nAccept: text/event-stream\r\n%s%s%s\r\n", category,
                         host, port, resumes ? "Last-Event-ID: " : "", position, resumes ? "\r\n" : "");
    line_length = 0;
    line_is_too_long = head_is_read = false;
    heard_at = time(NULL);
    stream = open_socket();
    if (stream < 0 || bytes >= (int)sizeof request || !send_all(stream, request, bytes)) lose_stream();
}

/* Reads a line: of the head, or of an event. */
static void read_line(void) {
    char id[65];
    long long total;
    int status;
    if (!head_is_read) {
        if (sscanf(line, "HTTP/1.%*d %d", &status) == 1 && status != 200) {
            fprintf(stderr, "the server answers %d\n", status);
            lose_stream();
        }
        if (line_length == 0) {
            head_is_read = true;
            wait_seconds = 1;
        }
    } else if (strncmp(line, "id: ", 4) == 0) {
        if (line_length - 4 < sizeof position) strcpy(position, line + 4);
    } else if (sscanf(line, "data: {\"id\":\"%64[A-Za-z0-9_-]\",\"total\":%lld", id, &total) == 2) {
        show(id, total);
    }
}

/* Reads what the stream has, byte by byte. */
static void read_stream(void) {
    static char bytes[256];
    ssize_t length = recv(stream, bytes, sizeof bytes, 0);
    if (length <= 0) {
        lose_stream();
        return;
    }
    heard_at = time(NULL);
    for (ssize_t at = 0; at < length && stream >= 0; at++) {
        if (bytes[at] == '\n') {
            line[line_length] = '\0';
            if (!line_is_too_long) read_line();
            line_length = 0;
            line_is_too_long = false;
        } else if (bytes[at] != '\r') {
            if (line_length < sizeof line - 1) line[line_length++] = bytes[at];
            else line_is_too_long = true;
        }
    }
}

/* Sends the oldest order without an answer. Returns whether the next one may follow at once. */
static bool send_order(void) {
    int status = order(answered_count);
    bool is_final = status >= 400 && status < 500 && status != 408 && status != 429;
    if (status != 200 && !is_final) return false;
    if (is_final) fprintf(stderr, "the server rejects order %u with %d\n", answered_count, status);
    answered_count++;
    return true;
}

int main(int argc, char **argv) {
    bool has_button = true;
    time_t order_at = 0;
    if (argc != 5) {
        fprintf(stderr, "usage: meter IPv4-ADDRESS PORT CATEGORY PRODUCT\n");
        return 2;
    }
    host = argv[1], port = argv[2], category = argv[3], product = argv[4];
    server.sin_family = AF_INET;
    server.sin_port = htons((unsigned short)atoi(port));
    if (inet_pton(AF_INET, host, &server.sin_addr) != 1) {
        fprintf(stderr, "%s is not an IPv4 address\n", host);
        return 2;
    }
    /* On a board without a clock: a number that no other start has, such as a counter in flash memory. */
    boot[0] = (unsigned long)time(NULL);
    boot[1] = (unsigned long)getpid();
    while (has_button || answered_count < pressed_count) {
        struct pollfd waits[2] = {{has_button ? STDIN_FILENO : -1, POLLIN, 0}, {-1, POLLIN, 0}};
        if (stream < 0 && time(NULL) >= connect_at) connect_stream();
        waits[1].fd = stream;
        if (poll(waits, 2, answered_count < pressed_count ? 100 : 1000) > 0) {
            if (waits[0].revents != 0) {
                int count = pressed();
                if (count < 0) has_button = false;
                else pressed_count += (unsigned)count;
            }
            if (waits[1].revents != 0) read_stream();
        }
        if (stream >= 0 && time(NULL) - heard_at > SILENCE_SECONDS) lose_stream();
        if (answered_count < pressed_count && time(NULL) >= order_at && !send_order()) order_at = time(NULL) + 1;
    }
    return 0;
}
