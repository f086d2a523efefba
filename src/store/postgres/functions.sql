-- What nodes call. Each function is one round trip. They run with the rights of their caller.
--
-- Settings of the functions: plans are made once for every number of rows, and go through indexes, because a table may
-- have grown by a hundred thousand rows since its statistics were last made.

-- The time in milliseconds since 1970 (UTC).
CREATE OR REPLACE FUNCTION ordercast.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT floor(1000 * extract(epoch FROM clock_timestamp()))::bigint
$$;

-- Makes the present transaction durable, also where a transaction is not by default.
CREATE OR REPLACE FUNCTION ordercast.make_durable() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END
$$;

-- What was committed after line `p_since` of the log and after row `p_since_news` of the news: at most `p_most` lines and
-- as many news. Where one of the two is cut, the other is too, so that nothing is left out before what is returned.
--
-- `seqs` to `times` have an element for each line, `news` to `news_rows` for each row of the news. `head_seq` and
-- `head_news` are the last ones that there are.
CREATE OR REPLACE FUNCTION ordercast.page(
    p_since bigint, p_since_news bigint, p_most int,
    OUT head_seq bigint, OUT head_news bigint, OUT run text, OUT seqs bigint[], OUT products int[], OUT amounts bigint[],
    OUT totals bigint[], OUT times bigint[], OUT news bigint[], OUT news_after bigint[], OUT news_kinds smallint[],
    OUT news_rows bigint[])
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_through bigint;
    v_last bigint;
    v_kept int;
BEGIN
    SELECT h.seq, h.news INTO STRICT head_seq, head_news FROM ordercast.head h WHERE h.one;
    run := (SELECT r.id FROM ordercast.runs r ORDER BY r.n DESC LIMIT 1);
    seqs := '{}'; products := '{}'; amounts := '{}'; totals := '{}'; times := '{}';
    news := '{}'; news_after := '{}'; news_kinds := '{}'; news_rows := '{}';
    v_through := head_seq;
    IF p_since_news < head_news THEN
        SELECT array_agg(c.n), array_agg(c.after), array_agg(c.kind), array_agg(c.row)
            INTO news, news_after, news_kinds, news_rows
            FROM (SELECT * FROM ordercast.news w WHERE w.n > p_since_news ORDER BY w.n LIMIT p_most) c;
        IF news IS NULL THEN
            news := '{}'; news_after := '{}'; news_kinds := '{}'; news_rows := '{}';
        END IF;
        IF news[cardinality(news)] < head_news THEN
            v_through := news_after[cardinality(news)];
        END IF;
    END IF;
    IF p_since < v_through THEN
        SELECT array_agg(l.seq), array_agg(l.product), array_agg(l.amount), array_agg(l.total), array_agg(l.at_ms)
            INTO seqs, products, amounts, totals, times
            FROM (
                SELECT * FROM ordercast.orders o
                WHERE o.seq > p_since AND o.seq <= v_through ORDER BY o.seq LIMIT p_most) l;
        IF seqs IS NULL THEN
            seqs := '{}'; products := '{}'; amounts := '{}'; totals := '{}'; times := '{}';
        END IF;
        v_last := seqs[cardinality(seqs)];
        IF v_last < v_through AND cardinality(news) > 0 THEN
            v_kept := (SELECT count(*) FROM unnest(news_after) a(after) WHERE a.after < v_last);
            news := news[:v_kept]; news_after := news_after[:v_kept];
            news_kinds := news_kinds[:v_kept]; news_rows := news_rows[:v_kept];
        END IF;
    END IF;
END
$$;

-- Counts the orders of a node's requests, by the rules of the ledger (src/ledger/local/mod.rs), and returns what was
-- committed since, these orders included.
--
-- `p_number` numbers the commits of a node. The number of its last commit may be asked for again, when its answer was lost:
-- then nothing is counted, and the outcomes are those of that commit.
--
-- `p_products`, `p_amounts`, `p_keys` and `p_requests` have an element for each order; the last one is the number of its
-- request, from 1 and ascending. `p_batch_keys` and `p_digests` have one for each request; a digest marks a batch, which
-- is counted whole or not at all.
--
-- `outcomes`: for each request 0 counted, 1 repeated, 2 key used for another request, 3 product hidden, 4 total out of
-- range, 5 no room for keys. `places`: of a rejected batch the index of the order at fault, else -1. `repeats`: the
-- number of its orders that were counted before.
CREATE OR REPLACE FUNCTION ordercast.commit(
    p_node bigint, p_number bigint, p_since bigint, p_since_news bigint, p_most int,
    p_products int[], p_amounts bigint[], p_keys text[], p_requests int[], p_batch_keys text[], p_digests bigint[],
    OUT outcomes smallint[], OUT places int[], OUT repeats int[],
    OUT head_seq bigint, OUT head_news bigint, OUT run text, OUT seqs bigint[], OUT products int[], OUT amounts bigint[],
    OUT totals bigint[], OUT times bigint[], OUT news bigint[], OUT news_after bigint[], OUT news_kinds smallint[],
    OUT news_rows bigint[])
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    c_most_total CONSTANT bigint := 9007199254740991; -- 2^53 - 1, see src/tally/order.rs
    v_orders CONSTANT int := cardinality(p_products);
    v_requests CONSTANT int := cardinality(p_digests);
    v_seq bigint;                       -- the last line before this commit
    v_news bigint;
    v_stored_keys bigint;
    v_key_ms bigint;
    v_now bigint;
    v_oldest_ms bigint;
    v_max_keys bigint;
    v_room bigint := 9223372036854775807; -- keys that may still be added
    v_done bigint;                      -- the node's last commit
    -- By product, of those that are asked for.
    v_rows int[];                       -- the products
    v_read_totals bigint[];
    v_read_hidden boolean[];
    v_totals bigint[];
    v_hidden boolean[];
    -- By place of the key: those of the orders are followed by those of the requests.
    v_all_keys text[];
    v_first int[];                      -- the first place of the same key; null if no key has two places
    v_key_products int[];               -- null: not used
    v_key_amounts bigint[];
    v_key_rows smallint[];              -- 0: no row in the table, 1: an expired one, 2: a valid one
    v_given int := 0;                   -- the number of keys
    v_added_keys bigint := 0;
    -- The lines that are added to the log.
    v_lines int := 0;
    v_line_orders int[] := '{}';        -- the order of each line
    v_line_totals bigint[] := '{}';
    v_next int := 1;                    -- the first order of the next request
    v_start int;                        -- the first order of the request
    v_begun int;                        -- the lines before the request
    v_is_batch boolean;
    v_batch_key int;
    v_outcome smallint;
    v_place int;
    v_repeats int;
    v_key int;
    v_product int;
    v_amount bigint;
    v_total bigint;
BEGIN
    IF cardinality(p_amounts) <> v_orders OR cardinality(p_keys) <> v_orders OR cardinality(p_requests) <> v_orders
        OR cardinality(p_batch_keys) <> v_requests THEN
        RAISE EXCEPTION 'the arrays of a commit differ in length' USING ERRCODE = 'OC003';
    END IF;
    PERFORM ordercast.make_durable();
    SELECT h.seq, h.news, h.keys, h.key_ms INTO STRICT v_seq, v_news, v_stored_keys, v_key_ms
        FROM ordercast.head h WHERE h.one FOR NO KEY UPDATE;
    -- Read after the lock is held, so that nothing of it is older.
    SELECT s.max_keys, s.keep_keys_ms, d.commit, d.outcomes, d.places, d.repeats, ordercast.now_ms()
        INTO STRICT v_max_keys, v_oldest_ms, v_done, outcomes, places, repeats, v_now
        FROM ordercast.settings s LEFT JOIN ordercast.nodes d ON d.id = p_node WHERE s.one;
    IF v_done > p_number THEN
        RAISE EXCEPTION 'commit % of node % was asked for after its commit %', p_number, p_node, v_done
            USING ERRCODE = 'OC001';
    ELSIF v_done IS DISTINCT FROM p_number THEN
        v_key_ms := greatest(v_key_ms, v_now);
        v_oldest_ms := v_key_ms - v_oldest_ms;

        IF v_orders > 0 THEN
            SELECT array_agg(a.product), array_agg(t.total), array_agg(p.hidden)
                INTO v_rows, v_read_totals, v_read_hidden
                FROM (SELECT DISTINCT u.product FROM unnest(p_products) u(product)) a
                    LEFT JOIN ordercast.totals t ON t.product = a.product
                    LEFT JOIN ordercast.products p ON p.row = a.product;
            -- The bounds come first, because an array is copied when it grows.
            v_product := (SELECT max(u.product) FROM unnest(v_rows) u(product));
            v_totals[1] := NULL;
            v_totals[v_product] := NULL;
            v_hidden[1] := NULL;
            v_hidden[v_product] := NULL;
            FOR n IN 1 .. cardinality(v_rows) LOOP
                v_product := v_rows[n];
                v_totals[v_product] := v_read_totals[n];
                v_hidden[v_product] := v_read_hidden[n];
            END LOOP;
            IF array_position(v_read_totals, NULL) IS NOT NULL OR array_position(v_read_hidden, NULL) IS NOT NULL THEN
                RAISE EXCEPTION 'an order names a product that the database does not have' USING ERRCODE = 'OC002';
            END IF;
        END IF;

        v_all_keys := p_keys || p_batch_keys;
        v_given := cardinality(array_remove(v_all_keys, NULL));
        IF v_given > 0 THEN
            -- In the order of the keys, which no join keeps by itself.
            SELECT array_agg(CASE WHEN a.at_ms >= v_oldest_ms THEN a.product END), array_agg(a.amount),
                array_agg(CASE WHEN a.at_ms >= v_oldest_ms THEN 2 WHEN a.at_ms IS NOT NULL THEN 1 ELSE 0 END::smallint)
                INTO v_key_products, v_key_amounts, v_key_rows
                FROM (
                    SELECT k.at_ms, k.product, k.amount
                    FROM unnest(v_all_keys) WITH ORDINALITY u(key, i)
                        LEFT JOIN ordercast.keys k ON k.key = u.key COLLATE "C"
                    ORDER BY u.i) a;
            IF v_given > (
                SELECT count(*)
                FROM (SELECT DISTINCT u.key COLLATE "C" FROM unnest(v_all_keys) u(key) WHERE u.key IS NOT NULL) d) THEN
                v_first := ARRAY(
                    SELECT min(u.i) OVER (PARTITION BY u.key COLLATE "C")
                    FROM unnest(v_all_keys) WITH ORDINALITY u(key, i) ORDER BY u.i);
            END IF;
            IF v_max_keys IS NOT NULL THEN
                v_room := v_max_keys - v_stored_keys;
                -- Expired keys do not count. No more are counted than matter.
                IF v_room < v_given THEN
                    v_room := v_room + (
                        SELECT count(*) FROM (
                            SELECT FROM ordercast.keys k WHERE k.at_ms < v_oldest_ms ORDER BY k.at_ms
                            LIMIT v_given - v_room) expired);
                END IF;
            END IF;
        END IF;

        outcomes := array_fill(0::smallint, ARRAY[v_requests]);
        places := array_fill(-1, ARRAY[v_requests]);
        repeats := array_fill(0, ARRAY[v_requests]);
        <<requests>>
        FOR r IN 1 .. v_requests LOOP
            v_start := v_next;
            v_is_batch := p_digests[r] IS NOT NULL;
            v_batch_key := NULL;
            IF v_is_batch THEN
                WHILE p_requests[v_next] = r LOOP
                    v_next := v_next + 1;
                END LOOP;
                IF p_batch_keys[r] IS NOT NULL THEN
                    v_batch_key := coalesce(v_first[v_orders + r], v_orders + r);
                    IF v_key_products[v_batch_key] IS NOT NULL THEN
                        IF v_key_products[v_batch_key] = 0 AND v_key_amounts[v_batch_key] = p_digests[r] THEN
                            outcomes[r] := 1;
                            repeats[r] := v_next - v_start;
                        ELSE
                            outcomes[r] := 2;
                        END IF;
                        CONTINUE requests;
                    END IF;
                    -- A key with two uses would hide one of them.
                    FOR o IN v_start .. v_next - 1 LOOP
                        IF p_keys[o] = p_batch_keys[r] THEN
                            outcomes[r] := 2;
                            places[r] := o - v_start;
                            CONTINUE requests;
                        END IF;
                    END LOOP;
                END IF;
            ELSIF p_requests[v_next] = r THEN
                v_next := v_next + 1;
            END IF;
            v_begun := v_lines;
            v_outcome := 1; -- until an order or a key is new
            v_place := -1;
            v_repeats := 0;
            FOR o IN v_start .. v_next - 1 LOOP
                v_product := p_products[o];
                v_amount := p_amounts[o];
                v_key := NULL;
                IF v_given > 0 AND p_keys[o] IS NOT NULL THEN
                    v_key := coalesce(v_first[o], o);
                    IF v_key_products[v_key] = v_product AND v_key_amounts[v_key] = v_amount THEN
                        v_repeats := v_repeats + 1;
                        CONTINUE;
                    END IF;
                END IF;
                v_total := v_totals[v_product] + v_amount;
                IF v_key IS NOT NULL AND v_key_products[v_key] IS NOT NULL THEN
                    v_outcome := 2;
                ELSIF v_hidden[v_product] THEN
                    v_outcome := 3;
                ELSIF v_key IS NOT NULL AND v_room <= 0 THEN
                    v_outcome := 5;
                ELSIF v_total NOT BETWEEN -c_most_total AND c_most_total THEN
                    v_outcome := 4;
                ELSE
                    v_outcome := 0;
                    v_lines := v_lines + 1;
                    v_line_orders[v_lines] := o;
                    v_line_totals[v_lines] := v_total;
                    v_totals[v_product] := v_total;
                    IF v_key IS NOT NULL THEN
                        v_key_products[v_key] := v_product;
                        v_key_amounts[v_key] := v_amount;
                        v_room := v_room - 1;
                    END IF;
                    CONTINUE;
                END IF;
                v_place := o - v_start;
                EXIT;
            END LOOP;
            IF v_outcome = 0 AND NOT v_is_batch THEN
                CONTINUE requests;
            END IF;
            IF v_batch_key IS NOT NULL AND v_outcome <= 1 THEN
                IF v_room > 0 THEN
                    v_outcome := 0;
                    v_key_products[v_batch_key] := 0;
                    v_key_amounts[v_batch_key] := p_digests[r];
                    v_room := v_room - 1;
                ELSE
                    v_outcome := 5;
                END IF;
            END IF;
            IF v_outcome > 1 THEN
                FOR l IN v_begun + 1 .. v_lines LOOP
                    v_key := v_line_orders[l];
                    v_product := p_products[v_key];
                    v_totals[v_product] := v_totals[v_product] - p_amounts[v_key];
                    IF p_keys[v_key] IS NOT NULL THEN
                        v_key_products[coalesce(v_first[v_key], v_key)] := NULL;
                        v_room := v_room + 1;
                    END IF;
                END LOOP;
                v_lines := v_begun;
                IF v_is_batch THEN
                    places[r] := v_place;
                END IF;
            ELSE
                repeats[r] := v_repeats;
            END IF;
            outcomes[r] := v_outcome;
        END LOOP;
        IF v_next <= v_orders THEN
            RAISE EXCEPTION 'the requests of orders are not in order' USING ERRCODE = 'OC003';
        END IF;

        IF v_lines > 0 THEN
            INSERT INTO ordercast.orders (seq, at_ms, product, amount, total, key)
                SELECT v_seq + l.n, v_now, p_products[l.o], p_amounts[l.o], l.total, p_keys[l.o]
                FROM unnest(v_line_orders[:v_lines], v_line_totals[:v_lines]) WITH ORDINALITY l(o, total, n);
            UPDATE ordercast.totals t SET total = v_totals[t.product], ordered_ms = v_now
                FROM (SELECT DISTINCT p_products[l.o] AS product FROM unnest(v_line_orders[:v_lines]) l(o)) d
                WHERE t.product = d.product;
        END IF;
        IF v_given > 0 THEN
            -- The lock has kept others from adding any of them since they were looked up.
            INSERT INTO ordercast.keys (key, at_ms, product, amount)
                SELECT k.key, v_key_ms, k.product, k.amount
                FROM unnest(v_all_keys, v_key_products, v_key_amounts, v_key_rows) k(key, product, amount, rows)
                WHERE k.product IS NOT NULL AND k.rows = 0;
            GET DIAGNOSTICS v_added_keys = ROW_COUNT;
            IF array_position(v_key_rows, 1::smallint) IS NOT NULL THEN
                UPDATE ordercast.keys o SET at_ms = v_key_ms, product = k.product, amount = k.amount
                    FROM unnest(v_all_keys, v_key_products, v_key_amounts, v_key_rows) k(key, product, amount, rows)
                    WHERE o.key = k.key AND k.product IS NOT NULL AND k.rows = 1;
            END IF;
        END IF;
        -- Written also when nothing was counted: an earlier call with this number, whose connection was lost while it
        -- waited for the lock, counts nothing any more.
        INSERT INTO ordercast.nodes (id, commit, outcomes, places, repeats, used_ms)
            VALUES (p_node, p_number, outcomes, places, repeats, v_now)
            ON CONFLICT ON CONSTRAINT nodes_pkey DO UPDATE SET commit = excluded.commit,
                outcomes = excluded.outcomes, places = excluded.places, repeats = excluded.repeats,
                used_ms = excluded.used_ms;
        UPDATE ordercast.head h SET seq = v_seq + v_lines, keys = v_stored_keys + v_added_keys, key_ms = v_key_ms
            WHERE h.one;
        IF v_lines > 0 THEN
            PERFORM pg_notify('ordercast', concat_ws(' ', p_node, v_seq + v_lines, v_news));
        END IF;
    END IF;
    SELECT g.* INTO head_seq, head_news, run, seqs, products, amounts, totals, times, news, news_after, news_kinds,
            news_rows
        FROM ordercast.page(p_since, p_since_news, p_most) g;
END
$$;

-- Locks the head until the end of the transaction, for changes that take several statements.
CREATE OR REPLACE FUNCTION ordercast.lock(OUT seq bigint, OUT news bigint) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    PERFORM ordercast.make_durable();
    SELECT h.seq, h.news INTO STRICT seq, news FROM ordercast.head h WHERE h.one FOR NO KEY UPDATE;
END
$$;

-- Begins a run with the id `p_run` if the last one began elsewhere: in another cluster, on another timeline, or before
-- the tables were restored. There the log may have lost lines that subscribers have seen. So it does if the log is not the
-- one that the caller has followed in run `p_known_run` up to line `p_known_seq`, of the time `p_known_ms` (null: unknown):
-- what was copied back file by file cannot be told from what was there before. Returns the id of the last run, and whether
-- it has just begun.
CREATE OR REPLACE FUNCTION ordercast.join(
    p_run text, p_known_run text DEFAULT NULL, p_known_seq bigint DEFAULT NULL, p_known_ms bigint DEFAULT NULL,
    OUT run text, OUT has_begun boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    c_most_runs CONSTANT int := 32; -- see src/tally/position.rs
    -- The last checkpoint may be older than the promotion, so the timeline is that of the log file that is written.
    v_cluster CONSTANT text := concat_ws(
        ':', (SELECT c.system_identifier FROM pg_control_system() c),
        left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), 'ordercast.head'::regclass::oid);
    v_last bigint;
    v_known text;
    v_seq bigint;
BEGIN
    PERFORM ordercast.make_durable();
    SELECT h.seq, h.cluster INTO STRICT v_seq, v_known FROM ordercast.head h WHERE h.one FOR NO KEY UPDATE;
    SELECT r.n, r.id INTO v_last, run FROM ordercast.runs r ORDER BY r.n DESC LIMIT 1;
    has_begun := run IS NULL OR v_known IS DISTINCT FROM v_cluster OR coalesce(run = p_known_run AND (
        v_seq < p_known_seq
        OR EXISTS (SELECT FROM ordercast.orders o WHERE o.seq = p_known_seq AND o.at_ms <> p_known_ms)), false);
    IF has_begun THEN
        run := p_run;
        v_last := coalesce(v_last, 0) + 1;
        INSERT INTO ordercast.runs (n, id, after) VALUES (v_last, p_run, v_seq);
        DELETE FROM ordercast.runs r WHERE r.n <= v_last - c_most_runs;
        UPDATE ordercast.head h SET cluster = v_cluster WHERE h.one;
    END IF;
END
$$;

-- Deletes what need not be kept, the oldest first: of expired keys and of lines of the log `p_most` each at most. Returns
-- the number of rows that were deleted; 0 when there is nothing more to do.
CREATE OR REPLACE FUNCTION ordercast.prune(p_most int) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    -- No node asks so late for the outcome of a commit.
    c_keep_nodes_ms CONSTANT bigint := 24 * 60 * 60 * 1000;
    v_now CONSTANT bigint := ordercast.now_ms();
    v_oldest_ms bigint;
    v_first bigint;
    v_keep_from bigint;
    v_keys bigint := 0;
    v_lines bigint := 0;
BEGIN
    SELECT greatest(h.key_ms, v_now) - s.keep_keys_ms, h.seq - s.keep_orders + 1
        INTO STRICT v_oldest_ms, v_keep_from
        FROM ordercast.head h, ordercast.settings s WHERE h.one AND s.one;
    v_first := (SELECT min(o.seq) FROM ordercast.orders o);
    IF NOT coalesce(v_first < v_keep_from, false)
        AND NOT EXISTS (SELECT FROM ordercast.keys k WHERE k.at_ms < v_oldest_ms) THEN
        RETURN 0;
    END IF;
    PERFORM ordercast.lock();
    -- A commit may have replaced one of them since.
    WITH deleted AS (
        DELETE FROM ordercast.keys k WHERE k.key = ANY (ARRAY(
            SELECT e.key FROM ordercast.keys e WHERE e.at_ms < v_oldest_ms ORDER BY e.at_ms LIMIT p_most))
        RETURNING 1)
    SELECT count(*) INTO v_keys FROM deleted;
    IF v_first < v_keep_from THEN
        DELETE FROM ordercast.orders o WHERE o.seq < least(v_keep_from, v_first + p_most);
        GET DIAGNOSTICS v_lines = ROW_COUNT;
    END IF;
    DELETE FROM ordercast.nodes d WHERE d.used_ms < v_now - c_keep_nodes_ms;
    IF v_keys > 0 THEN
        UPDATE ordercast.head h SET keys = h.keys - v_keys WHERE h.one;
    END IF;
    RETURN v_keys + v_lines;
END
$$;
