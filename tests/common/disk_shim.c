/* Disk faults for the tests: preloaded into the server, this library records every call that changes a file of the data
 * folder, and every byte that is sent on a socket, in the order in which they happen. It makes such calls fail, stop
 * short or hang when a test says so. tests/common/disk.rs is the other side.
 *
 * DISK_FOLDER   the data folder, an absolute path without links; calls on other files are not changed
 * DISK_TRACE    the file that records are appended to; without it there are no records
 * DISK_CONTROL  the file with one fault (struct fault), mapped, so that the test can change it at any time
 *
 * A call has two records: one before it, with its data, and one after it, with its result. If the process is killed
 * between the two, the call may have been made. If it is killed while it writes a record, the next process truncates
 * the incomplete record. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <netinet/in.h>
#include <time.h>
#include <unistd.h>

enum kind { OPEN = 1, WRITE, TRUNCATE, SYNC, UNLINK, RENAME, SEND, DONE, CLOSE };
/* A file of the folder, by the end of its name: bits, so that a fault can affect several. */
enum target { MAIN = 1, WAL = 2, SHM = 4, JOURNAL = 8, OTHER = 16, FOLDER = 32 };
enum action { FAIL = 1, SHORT, SHORT_THEN_FAIL, HANG };

struct record {
    uint32_t kind, target;
    int32_t fd, result;       /* result: of DONE, what the call returned; of SEND, the port of the peer */
    uint64_t offset;          /* of WRITE; of TRUNCATE the new size; of OPEN the flags; of DONE the errno */
    uint32_t number, length;  /* number: of the call, the same in its DONE; length: of what follows */
};

struct fault {
    uint32_t armed;
    uint32_t kinds;    /* bits: 1 << kind */
    uint32_t targets;  /* bits of enum target */
    uint32_t action;
    uint32_t error;
    uint32_t bytes;    /* the length of a short write */
    uint32_t skip;     /* the number of calls before the first that is hit */
    uint32_t times;    /* the number of calls that are hit; 0 is all */
    uint32_t released; /* set by the test: calls that hang go on */
    uint32_t seen;     /* counted here: calls of these kinds on these files */
    uint32_t hits;     /* counted here: calls that were hit; a call that hangs counts when it begins to hang */
};

#define DESCRIPTORS 65536
static unsigned char targets[DESCRIPTORS];
static unsigned char appends[DESCRIPTORS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static int trace = -1;
static struct fault *fault;
static uint32_t calls;

static int (*real_open)(const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);
static ssize_t (*real_send)(int, const void *, size_t, int);

/* Truncates the incomplete record of a killed process: its call was not made. */
static void drop_torn_record(void) {
    struct stat status;
    if (fstat(trace, &status) != 0) abort();
    struct record record;
    off_t end = 0, next = 0;
    while (next <= status.st_size) {
        end = next;
        if (pread(trace, &record, sizeof record, end) != sizeof record) break;
        next = end + sizeof record + record.length;
    }
    if (end < status.st_size && real_ftruncate(trace, end) != 0) abort();
}

__attribute__((constructor)) static void start(void) {
    if (real_open) return;
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fallocate = dlsym(RTLD_NEXT, "posix_fallocate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_send = dlsym(RTLD_NEXT, "send");
    real_open = dlsym(RTLD_NEXT, "open64");
    folder = getenv("DISK_FOLDER");
    folder_length = folder ? strlen(folder) : 0;
    const char *path = getenv("DISK_TRACE");
    if (path) {
        trace = real_open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (trace >= 0) drop_torn_record();
    }
    path = getenv("DISK_CONTROL");
    if (path) {
        int fd = real_open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0) abort();
        fault = mmap(0, sizeof *fault, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (fault == MAP_FAILED) abort();
        real_close(fd);
    }
}

static int ends_with(const char *name, const char *end) {
    size_t a = strlen(name), b = strlen(end);
    return a >= b && strcmp(name + a - b, end) == 0;
}

/* The target of a path; 0 outside the folder. */
static int target_of(const char *path) {
    if (!folder || strncmp(path, folder, folder_length) != 0) return 0;
    if (path[folder_length] == 0) return FOLDER;
    if (path[folder_length] != '/') return 0;
    if (ends_with(path, ".sqlite3")) return MAIN;
    if (ends_with(path, "-wal")) return WAL;
    if (ends_with(path, "-shm")) return SHM;
    if (ends_with(path, "-journal")) return JOURNAL;
    return OTHER;
}

static int target_of_fd(int fd) { return fd >= 0 && fd < DESCRIPTORS ? targets[fd] : 0; }

/* One record in one write: complete in the trace, unless the process is killed during it. */
static uint32_t put(struct record record, const void *data, size_t length, const void *more, size_t more_length) {
    if (trace < 0) return 0;
    int before = errno;
    pthread_mutex_lock(&lock);
    if (record.kind != DONE) record.number = ++calls;
    record.length = length + more_length;
    struct iovec parts[3] = {{&record, sizeof record}, {(void *)data, length}, {(void *)more, more_length}};
    ssize_t wanted = sizeof record + length + more_length;
    if (real_writev(trace, parts, 3) != wanted) abort();
    pthread_mutex_unlock(&lock);
    errno = before;
    return record.number;
}

static void done(uint32_t number, int64_t result) {
    struct record record = {.kind = DONE, .number = number, .result = (int32_t)result, .offset = result < 0 ? errno : 0};
    put(record, 0, 0, 0, 0);
}

static struct fault *hit(enum kind kind, int target) {
    if (!fault || !__atomic_load_n(&fault->armed, __ATOMIC_ACQUIRE)) return 0;
    if (!(fault->kinds & 1u << kind) || !(fault->targets & target)) return 0;
    uint32_t seen = __atomic_fetch_add(&fault->seen, 1, __ATOMIC_ACQ_REL);
    if (seen < fault->skip || (fault->times && seen >= fault->skip + fault->times)) return 0;
    __atomic_fetch_add(&fault->hits, 1, __ATOMIC_ACQ_REL);
    if (fault->action == HANG) {
        struct timespec pause = {0, 1000000};
        while (!__atomic_load_n(&fault->released, __ATOMIC_ACQUIRE)) nanosleep(&pause, 0);
        return 0;
    }
    return fault;
}

static int opened(const char *path, int flags, mode_t mode) {
    start();
    int target = target_of(path);
    if (!target) {
        int fd = real_open(path, flags, mode);
        if (fd >= 0 && fd < DESCRIPTORS) targets[fd] = 0;
        return fd;
    }
    struct fault *hurt = hit(OPEN, target);
    if (hurt) {
        errno = hurt->error;
        return -1;
    }
    struct record record = {.kind = OPEN, .target = target, .offset = flags};
    uint32_t number = put(record, path, strlen(path), 0, 0);
    int fd = real_open(path, flags, mode);
    if (fd >= DESCRIPTORS) abort();
    if (fd >= 0) {
        targets[fd] = target;
        appends[fd] = (flags & O_APPEND) != 0;
    }
    done(number, fd);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    return opened(path, flags, mode);
}

int close(int fd) {
    start();
    if (target_of_fd(fd)) {
        targets[fd] = 0;
        put((struct record){.kind = CLOSE, .fd = fd}, 0, 0, 0, 0);
    }
    return real_close(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    start();
    int target = target_of_fd(fd);
    if (!target) return real_pwrite(fd, data, length, offset);
    struct fault *hurt = hit(WRITE, target);
    size_t part = length;
    if (hurt) {
        part = hurt->action == FAIL ? 0 : hurt->bytes < length ? hurt->bytes : length;
        if (part == 0 && hurt->action == SHORT) part = 1;
    }
    ssize_t result = 0;
    if (part > 0) {
        struct record record = {.kind = WRITE, .target = target, .fd = fd, .offset = offset};
        uint32_t number = put(record, data, part, 0, 0);
        result = real_pwrite(fd, data, part, offset);
        done(number, result);
    }
    if (hurt && hurt->action != SHORT) {
        errno = hurt->error;
        return -1;
    }
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t write(int fd, const void *data, size_t length) {
    start();
    if (!target_of_fd(fd)) return real_write(fd, data, length);
    off_t offset = lseek(fd, 0, appends[fd] ? SEEK_END : SEEK_CUR);
    ssize_t result = pwrite64(fd, data, length, offset);
    if (result > 0) lseek(fd, offset + result, SEEK_SET);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    start();
    if (!target_of_fd(fd)) return real_writev(fd, parts, count);
    return count > 0 ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0;
}

int ftruncate64(int fd, off_t size) {
    start();
    int target = target_of_fd(fd);
    if (!target) return real_ftruncate(fd, size);
    struct fault *hurt = hit(TRUNCATE, target);
    if (hurt) {
        errno = hurt->error;
        return -1;
    }
    uint32_t number = put((struct record){.kind = TRUNCATE, .target = target, .fd = fd, .offset = size}, 0, 0, 0, 0);
    int result = real_ftruncate(fd, size);
    done(number, result);
    return result;
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Not supported: the caller then extends the file by writes, which are recorded. */
int posix_fallocate64(int fd, off_t offset, off_t length) {
    start();
    if (target_of_fd(fd)) return EOPNOTSUPP;
    return real_fallocate(fd, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

static int synced(int fd, int (*real)(int)) {
    int target = target_of_fd(fd);
    if (!target) return real(fd);
    uint32_t number = put((struct record){.kind = SYNC, .target = target, .fd = fd}, 0, 0, 0, 0);
    struct fault *hurt = hit(SYNC, target);
    int result = -1;
    if (hurt) errno = hurt->error;
    else result = real(fd);
    done(number, result);
    return result;
}

int fsync(int fd) {
    start();
    return synced(fd, real_fsync);
}

int fdatasync(int fd) {
    start();
    return synced(fd, real_fdatasync);
}

int unlink(const char *path) {
    start();
    int target = target_of(path);
    if (!target) return real_unlink(path);
    struct fault *hurt = hit(UNLINK, target);
    if (hurt) {
        errno = hurt->error;
        return -1;
    }
    uint32_t number = put((struct record){.kind = UNLINK, .target = target}, path, strlen(path), 0, 0);
    int result = real_unlink(path);
    done(number, result);
    return result;
}

int rename(const char *from, const char *to) {
    start();
    int target = target_of(from);
    if (!target) return real_rename(from, to);
    struct fault *hurt = hit(RENAME, target);
    if (hurt) {
        errno = hurt->error;
        return -1;
    }
    struct record record = {.kind = RENAME, .target = target};
    uint32_t number = put(record, from, strlen(from) + 1, to, strlen(to));
    int result = real_rename(from, to);
    done(number, result);
    return result;
}

/* Recorded before it is sent: what an answer promises must be true by then. */
ssize_t send(int fd, const void *data, size_t length, int flags) {
    start();
    if (trace >= 0) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        struct record record = {.kind = SEND, .fd = fd, .result = 0};
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.ss_family == AF_INET)
            record.result = ntohs(((struct sockaddr_in *)&peer)->sin_port);
        put(record, data, length, 0, 0);
    }
    return real_send(fd, data, length, flags);
}
