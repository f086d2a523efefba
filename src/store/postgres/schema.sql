-- The tables of version 1. The owner of the database makes them; a node needs less, see docs/scaling.md.
--
-- Rows of categories and products start at 1 and follow the catalogue's indexes. Tables of one row have a constant key,
-- so that no plan reads them page by page. Nothing refers to `products` by a foreign key: each line of the log would be
-- checked for what `totals` has shown already.
CREATE SCHEMA ordercast;

-- The number of migrations that the schema has had.
CREATE TABLE ordercast.version (one boolean PRIMARY KEY DEFAULT true CHECK (one), version int NOT NULL);

-- The lock on this row orders all commits. `seq`: the number of the last line of the log; `news`: the number of the last
-- row of `news`; `keys`: the number of rows of `keys`; `key_ms`: the time of the last key, which never goes back;
-- `shown_after`: the last line before a product was last shown again; `cluster`: where the last run began.
-- Every commit writes a new version of the row: with room in its page no index is touched.
CREATE TABLE ordercast.head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), seq bigint NOT NULL CHECK (seq >= 0),
    news bigint NOT NULL CHECK (news >= 0), keys bigint NOT NULL, key_ms bigint NOT NULL, shown_after bigint,
    cluster text) WITH (fillfactor = 10);

-- How long a key is known, how many keys may be kept, and how many lines the log keeps; null for no limit.
CREATE TABLE ordercast.settings (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), keep_keys_ms bigint NOT NULL CHECK (keep_keys_ms >= 0),
    max_keys bigint CHECK (max_keys >= 0), keep_orders bigint CHECK (keep_orders >= 0));

CREATE TABLE ordercast.categories (
    row int PRIMARY KEY, name text NOT NULL UNIQUE, prefix text NOT NULL, title text NOT NULL);

-- `opening`: the total when the current period was opened, or the starting total of a product that was added later;
-- `added_seq`: the line of the log that is its starting total and no order.
CREATE TABLE ordercast.products (
    row int PRIMARY KEY, id text NOT NULL UNIQUE, category int NOT NULL REFERENCES ordercast.categories,
    name text NOT NULL, rrp text NOT NULL, info text NOT NULL, hidden boolean NOT NULL, opening bigint NOT NULL,
    added_seq bigint);

-- What every order changes, apart from the texts: the rows are short, and their new versions find room in their page.
CREATE TABLE ordercast.totals (
    product int PRIMARY KEY, total bigint NOT NULL, ordered_ms bigint) WITH (fillfactor = 50);

CREATE TABLE ordercast.orders (
    seq bigint PRIMARY KEY, at_ms bigint NOT NULL, product int NOT NULL, amount bigint NOT NULL, total bigint NOT NULL,
    key text);

-- `product` 0 is a request with several orders, whose digest is in `amount`. Texts are compared byte by byte.
CREATE TABLE ordercast.keys (
    key text COLLATE "C" PRIMARY KEY, at_ms bigint NOT NULL, product int NOT NULL, amount bigint NOT NULL);
CREATE INDEX keys_at_ms ON ordercast.keys (at_ms);

-- The last one is the current period. A closed one ends where the next begins; its report is in `period_sums`.
CREATE TABLE ordercast.periods (number bigint PRIMARY KEY, opened_ms bigint NOT NULL, opened_after bigint NOT NULL);
CREATE TABLE ordercast.period_sums (
    period bigint, product int, amount bigint NOT NULL, PRIMARY KEY (period, product));

-- The history of products and categories.
CREATE TABLE ordercast.changes (n bigint PRIMARY KEY, at_ms bigint NOT NULL, line text NOT NULL);

-- The last runs, each with the last line of the log before it.
CREATE TABLE ordercast.runs (n bigint PRIMARY KEY, id text NOT NULL, after bigint NOT NULL);

-- What other nodes have to read again, after line `after` of the log and before the next one. `kind` 1: the category
-- `row` is new or has another title; 2: the product `row` is new, and line `after` + 1 is its first; 3: the product `row`
-- was changed; 4: the period `row` was opened.
CREATE TABLE ordercast.news (n bigint PRIMARY KEY, after bigint NOT NULL, kind smallint NOT NULL, row bigint NOT NULL);

-- The last commit of each node and its outcome, for a node that was cut off before it had read it.
CREATE TABLE ordercast.nodes (
    id bigint PRIMARY KEY, commit bigint NOT NULL, outcomes smallint[] NOT NULL, places int[] NOT NULL,
    repeats int[] NOT NULL, used_ms bigint NOT NULL) WITH (fillfactor = 50);

INSERT INTO ordercast.version (version) VALUES (1);
INSERT INTO ordercast.head (seq, news, keys, key_ms) VALUES (0, 0, 0, 0);
INSERT INTO ordercast.settings (keep_keys_ms) VALUES (24 * 60 * 60 * 1000);
INSERT INTO ordercast.periods VALUES (1, floor(1000 * extract(epoch FROM clock_timestamp())), 0);
