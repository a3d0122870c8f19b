-- CPU-bound work for sqlite3, all in memory: inserts, an index, joins, grouping, text. Prints its own wall time in seconds.
.bail on
PRAGMA temp_store = MEMORY;
CREATE TABLE bench_start AS SELECT julianday('now') AS at;
CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, weight REAL, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700000)
INSERT INTO item SELECT i, (i * 7919) % 997, ((i * 104729) % 10007) / 100.0, printf('item-%06d-%x', (i * 31337) % 700001, i) FROM n;
CREATE INDEX item_kind ON item (kind, weight);
CREATE TABLE result AS
SELECT kind, count(*) AS items, sum(weight) AS total, max(name) AS last FROM item GROUP BY kind ORDER BY total;
SELECT count(*), round(sum(a.weight * b.weight)) FROM item a JOIN item b ON b.kind = a.kind AND b.weight BETWEEN a.weight - 2 AND a.weight + 2 WHERE a.id % 3 = 0;
SELECT count(*) FROM item WHERE name LIKE '%-7%a%' OR instr(upper(name), 'F0') > 0;
SELECT sum(length(replace(name, '0', 'zero'))) FROM item ORDER BY 1;
WITH RECURSIVE f(i, x) AS (SELECT 0, 1 UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM f WHERE i < 2000000)
SELECT count(DISTINCT x % 4099), avg(x) FROM f;
SELECT printf('wall %.6f', (julianday('now') - at) * 86400) FROM bench_start;
