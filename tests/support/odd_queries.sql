-- What an analyst may type, one a line, whether it makes sense or not.
SELECT [1,2,3]
SELECT [age, level] FROM patient
SELECT list(age) FROM patient
SELECT {'a': ward} FROM patient
SELECT struct_pack(a := 1)
SELECT unnest([1,2])
SELECT unnest(list(age)) FROM patient
SELECT list_transform([1,2], x -> x+1)
SELECT list_transform([1,2], lambda x: x+1)
PIVOT patient ON ward USING count(*)
UNPIVOT codes ON code, fee INTO NAME n VALUE v
SELECT * FROM (PIVOT codes ON label USING sum(fee))
WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t WHERE n<5) SELECT * FROM t
WITH RECURSIVE t AS (SELECT pid FROM patient UNION SELECT pid FROM t) SELECT count(*) FROM t
SELECT count(*) FROM visit ASOF JOIN patient USING (pid, born)
SELECT count(*) FROM visit v ASOF JOIN codes c ON v.code >= c.code
SELECT count(*) FROM patient POSITIONAL JOIN codes
SELECT count(*) FROM patient FULL JOIN visit USING (pid)
SELECT count(*) FROM patient RIGHT JOIN visit USING (pid)
SELECT count(*) FROM codes FULL OUTER JOIN drugs ON code=drug
SELECT label, maker FROM codes RIGHT JOIN drugs ON code=drug
SELECT count(*) FROM patient NATURAL JOIN visit
SELECT count(*) FROM patient SEMI JOIN visit USING (pid)
SELECT count(*) FROM patient ANTI JOIN visit USING (pid)
SELECT count(*) FROM patient p, LATERAL (SELECT count(*) n FROM visit v WHERE v.pid=p.pid) l WHERE l.n>2
SELECT count(*) FROM patient p CROSS JOIN LATERAL (SELECT 1) l
VALUES (1),(2)
VALUES (1,'a'),(2,NULL)
SELECT * FROM (VALUES (1,2)) v(a,b)
SELECT count(*) FROM patient TABLESAMPLE 10%
SELECT count(*) FROM patient USING SAMPLE 5
SELECT ward, count(*) FROM patient GROUP BY ward QUALIFY rank() OVER (ORDER BY count(*)) = 1
SELECT ward, sum(count(*)) OVER (ORDER BY ward RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM patient GROUP BY ward
SELECT level, sum(count(*)) OVER (ORDER BY level RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM patient GROUP BY level
SELECT level, sum(count(*)) OVER (ORDER BY level ROWS 2 PRECEDING EXCLUDE CURRENT ROW) FROM patient GROUP BY level
SELECT level, sum(count(*)) OVER (ORDER BY level GROUPS 2 PRECEDING) FROM patient GROUP BY level
SELECT level, sum(count(*)) OVER w FROM patient GROUP BY level WINDOW w AS (ORDER BY level)
SELECT level, lag(count(*), 1, 0) IGNORE NULLS OVER (ORDER BY level) FROM patient GROUP BY level
SELECT level, count(*) FILTER (WHERE level>0) OVER () FROM patient GROUP BY level
SELECT level, count(DISTINCT count(*)) OVER () FROM patient GROUP BY level
SELECT INTERVAL 1 DAY
SELECT INTERVAL '1 month 2 days' + DATE '2020-01-01'
SELECT day + INTERVAL 1 DAY, count(*) FROM visit GROUP BY 1
SELECT age(born), count(*) FROM patient GROUP BY 1
SELECT day - DATE '2020-01-01', count(*) FROM visit GROUP BY 1
SELECT date_diff('day', day, DATE '2020-01-01'), count(*) FROM visit GROUP BY 1
SELECT count(*) FROM visit WHERE day + INTERVAL 1 DAY > DATE '2024-01-01'
SELECT ward COLLATE NOCASE, count(*) FROM patient GROUP BY 1
SELECT count(*) FROM patient WHERE ward COLLATE DE = 'x'
SELECT ward, count(*) FROM patient GROUP BY ward ORDER BY ward COLLATE NOCASE
SELECT ward AS "名前", count(*) AS "ün""x" FROM patient GROUP BY ward
SELECT ward AS "a b;--", count(*) "{}" FROM patient GROUP BY ward
SELECT count(*) AS "{0}" FROM patient
SELECT sum(age) AS "x{y}" FROM patient WHERE note = '{0}{}{{'
SELECT count(*) FILTER (WHERE note='{a}') + sum(CASE WHEN note='{0}' THEN 1 ELSE 2 END) FROM patient
SELECT avg(age) FROM patient HAVING avg(age) > 3
SELECT count(*) FROM patient WHERE note = 'it''s'
SELECT count(*) FROM patient WHERE note = E'a\nb'
SELECT count(*) FROM patient WHERE note = $$x$$
SELECT * FROM patient
SELECT patient FROM patient
SELECT p FROM patient p
SELECT COLUMNS(*) FROM codes
SELECT COLUMNS('c.*') FROM codes
SELECT * EXCLUDE (code) FROM codes
SELECT * REPLACE (code+1 AS code) FROM codes
SELECT * RENAME (code AS x) FROM codes
SELECT #1 FROM codes
SELECT ward, count(*) FROM patient GROUP BY #1
SELECT count(*) FROM patient LIMIT 10%
SELECT count(*) FROM patient LIMIT (SELECT 1)
SELECT count(*) FROM patient LIMIT 0
SELECT count(*) FROM patient LIMIT 9223372036854775807
SELECT count(*) FROM patient OFFSET 1
SELECT DISTINCT ON (ward) ward, count(*) FROM patient GROUP BY ward, sex
SELECT ward, count(*) FROM patient GROUP BY ward ORDER BY random()
SELECT random()
SELECT now()
SELECT current_date
SELECT current_setting('threads')
SELECT getenv('HOME')
SELECT uuid()
SELECT version()
SELECT nextval('s')
SELECT pg_typeof(1)
SELECT typeof(1)
SELECT hash(1)
SELECT md5('x')
SELECT md5(ward), count(*) FROM patient GROUP BY 1
SELECT hash(ward), count(*) FROM patient GROUP BY 1
SELECT error('x')
SELECT CASE WHEN count(*)>3 THEN error('x') END FROM patient
SELECT 1/0
SELECT 1//0
SELECT count(*)/0 FROM patient
SELECT 'abc'::INT
SELECT count(*) FROM patient WHERE level = 'abc'
SELECT count(*) FROM patient WHERE level = 99999999999999999999
SELECT count(*) FROM patient WHERE balance = 1e400
SELECT count(*) FROM patient WHERE age = 'nan'::DOUBLE
SELECT 'nan'::DOUBLE, 'inf'::DOUBLE, -'inf'::DOUBLE
SELECT count(*) + 'inf'::DOUBLE FROM patient
SELECT sum(age * 'nan'::DOUBLE) FROM patient
SELECT sum(age / 0) FROM patient
SELECT sum(age / 'inf'::DOUBLE) FROM patient
SELECT sum(age * 1e300) FROM patient
SELECT sum(age * 1e-300) FROM patient
SELECT sum(age) * 1e308 * 10 FROM patient
SELECT sum(age * 170141183460469231731687303715884105727) FROM patient
SELECT sum(age ** 2), sum(power(age,2)), sum(age % 2), sum(age // 2), sum(sqrt(age)) FROM patient
SELECT sum(age & 1), sum(age << 2), sum(xor(age,1)) FROM patient
SELECT quantile_cont(age, 0.5), median(age), mode(ward), first(age), arg_max(age, level) FROM patient
SELECT string_agg(ward) FROM patient
SELECT string_agg(ward, ',' ORDER BY ward) FROM patient
SELECT histogram(age), approx_count_distinct(pid), approx_quantile(age,0.5) FROM patient
SELECT entropy(age), kurtosis(age), skewness(age), product(age), bit_xor(age) FROM patient
SELECT sum(age ORDER BY age) FROM patient
SELECT max(age) FROM patient
SELECT min_by(ward, age) FROM patient
SELECT count(*) FROM read_csv('/etc/passwd')
SELECT count(*) FROM '/etc/passwd'
SELECT count(*) FROM range(10)
SELECT count(*) FROM generate_series(1,10)
SELECT count(*) FROM duckdb_tables()
SELECT count(*) FROM information_schema.tables
SELECT count(*) FROM pg_catalog.pg_class
SELECT count(*) FROM sqlite_master
SELECT count(*) FROM clinic.main.patient
SELECT count(*) FROM clinic.patient
SELECT count(*) FROM main.patient
SELECT count(*) FROM PATIENT
SELECT count(*) FROM "Patient"
SELECT clinic.patient.ward, count(*) FROM clinic.patient GROUP BY 1
SELECT count(*) FROM patient AS t(a,b,c) WHERE c='f'
SELECT a, count(*) FROM patient t(a,b) GROUP BY a
SELECT b, count(*) FROM patient t(a,b) GROUP BY b
SUMMARIZE patient
DESCRIBE patient
SHOW TABLES
EXPLAIN SELECT 1
SELECT 1; SELECT 2
SELECT 1;
;
SELECT
CREATE TABLE x(a INT)
SELECT ?
SELECT $1
SELECT $a
SELECT count(*) FROM patient WHERE level = ?
SELECT (SELECT 1, 2)
SELECT (SELECT code FROM codes)
SELECT (SELECT code FROM codes WHERE false)
SELECT (SELECT ward FROM patient)
SELECT count(*) FROM patient WHERE level = (SELECT code FROM codes)
SELECT count(*) FROM patient WHERE level = ANY (SELECT code FROM codes)
SELECT count(*) FROM patient WHERE level > ALL (SELECT code FROM codes WHERE code<0)
SELECT count(*) FROM patient WHERE level >= ANY (SELECT code FROM codes)
SELECT count(*) FROM patient WHERE EXISTS (SELECT 1)
SELECT count(*) FROM patient WHERE EXISTS (FROM codes)
SELECT count(*) FROM patient WHERE (SELECT true)
SELECT count(*) FROM patient WHERE level IN (1,2,NULL)
SELECT count(*) FROM patient WHERE NULL
SELECT count(*) FROM patient WHERE ward
SELECT count(*) FROM patient WHERE level IN (SELECT level FROM patient)
SELECT count(*) FROM patient WHERE ward IN (SELECT ward FROM patient GROUP BY ward HAVING count(DISTINCT pid)>5)
SELECT count(*) FROM patient WHERE ward IN (SELECT ward FROM patient GROUP BY ward LIMIT 1)
SELECT count(*) FROM patient WHERE ward IN (SELECT ward FROM patient GROUP BY ROLLUP(ward))
SELECT count(*) FROM patient WHERE ward IN (SELECT ward FROM patient UNION ALL SELECT 'x')
SELECT count(*) FROM (SELECT ward FROM patient UNION ALL SELECT kind FROM visit)
SELECT count(*) FROM (SELECT * FROM patient LIMIT 5)
SELECT count(*) FROM (SELECT * FROM patient ORDER BY age)
SELECT count(*) FROM (SELECT pid, row_number() OVER () r FROM patient)
SELECT ward, count(*) FROM patient GROUP BY ward UNION ALL BY NAME SELECT kind ward, count(*) FROM visit GROUP BY kind
SELECT ward FROM patient GROUP BY ward UNION ALL SELECT label FROM codes
SELECT * FROM (SELECT ward FROM patient GROUP BY ward) a, codes
SELECT count(*) FROM codes WHERE code IN (SELECT code FROM visit)
SELECT label FROM codes WHERE code IN (SELECT code FROM visit GROUP BY code)
SELECT label FROM codes c WHERE EXISTS (SELECT 1 FROM visit v WHERE v.code=c.code)
SELECT label, (SELECT count(*) FROM visit v WHERE v.code=c.code) FROM codes c
SELECT label, (SELECT sum(cost) FROM visit v WHERE v.code=c.code AND v.kind='in') FROM codes c ORDER BY 1
SELECT c.label, v.cost FROM codes c LEFT JOIN visit v ON v.code=c.code
SELECT ward, (SELECT max(fee) FROM codes WHERE code=level) FROM patient
SELECT pid, count(*) FROM patient GROUP BY pid
SELECT count(*) FROM patient GROUP BY pid
SELECT count(*) FROM patient GROUP BY pid+0
SELECT count(*), pid FROM patient GROUP BY ALL
SELECT count(pid), sum(pid), avg(pid), count(DISTINCT pid+1) FROM patient
SELECT count(*) FROM patient WHERE pid=5
SELECT count(*) FROM patient WHERE pid IN (1,2,3)
SELECT count(*) FROM patient WHERE pid < 10
SELECT count(*) FROM patient WHERE pid IS NOT NULL
SELECT count(*) FROM patient p JOIN visit v ON p.pid = v.pid + 1
SELECT count(*) FROM patient p JOIN visit v ON p.pid < v.pid
SELECT count(*) FROM patient p JOIN visit v ON p.level=v.code
SELECT count(*) FROM patient, visit
SELECT count(*) FROM patient p LEFT JOIN visit v ON true
SELECT count(*) FROM patient p LEFT JOIN visit v ON p.pid=v.pid OR v.code=1
SELECT count(*) FROM patient p LEFT JOIN codes c ON p.level<c.code
SELECT count(*) FROM patient p LEFT JOIN codes c ON c.fee>1
SELECT count(*) FROM patient p LEFT JOIN codes c ON p.level=c.code AND p.sex='f'
SELECT count(*) FROM patient p JOIN codes c ON p.level BETWEEN c.code AND c.code+1
SELECT count(*) FROM patient p JOIN codes c ON abs(p.level)=c.code
SELECT count(*) FROM patient p JOIN codes c ON p.level+1=c.code
SELECT rowid, count(*) FROM patient GROUP BY rowid
SELECT count(rowid) FROM patient
SELECT rowid FROM codes
SELECT count(*) FROM patient WHERE rowid<10
SELECT count(*) FROM patient AT (VERSION => 1)
SELECT count(*) FROM patient GROUP BY ()
SELECT ward FROM patient GROUP BY ward, ()
SELECT grouping(ward), count(*) FROM patient GROUP BY ward
SELECT count(*) FROM patient GROUP BY CUBE(ward,sex,smokes,level)
SELECT count(*) FROM patient GROUP BY GROUPING SETS (ROLLUP(ward,sex), CUBE(level))
SELECT ward, ward, count(*), count(*) FROM patient GROUP BY ward, ward
SELECT NULL
SELECT NULL, count(*) FROM patient
SELECT NULL x, count(*) FROM patient GROUP BY x
SELECT true, DATE '2020-01-01', TIMESTAMP '2020-01-01', TIME '10:00', 'a'::BLOB, 1::UTINYINT, 1::FLOAT, 1::UBIGINT, 1::HUGEINT
SELECT '00000000-0000-0000-0000-000000000000'::UUID
SELECT '2020-01-01'::TIMESTAMPTZ
SELECT TIMESTAMP_NS '2020-01-01', '101'::BIT
SELECT 'a'::ENUM('a','b')
SELECT MAP {'a': 1}
SELECT {'a':1}.a
SELECT [1,2][1]
SELECT 'abc'[1], 'abc'[1:2]
SELECT ward[1], count(*) FROM patient GROUP BY 1
SELECT ward.upper(), count(*) FROM patient GROUP BY 1
SELECT [x FOR x IN [1,2] IF x>1]
SELECT ward LIKE 'w%', count(*) FROM patient GROUP BY 1
SELECT ward SIMILAR TO 'w.', count(*) FROM patient GROUP BY 1
SELECT ward ~ 'w', count(*) FROM patient GROUP BY 1
SELECT ward GLOB 'w*', count(*) FROM patient GROUP BY 1
SELECT count(*) FROM patient WHERE note LIKE 'a%' ESCAPE '!'
SELECT count(*) FROM patient WHERE regexp_matches(note,'a')
SELECT regexp_replace(label,'o','x'), count(*) FROM codes GROUP BY 1
SELECT concat(ward,sex), count(*) FROM patient GROUP BY 1
SELECT ward||sex, count(*) FROM patient GROUP BY 1
SELECT greatest(level,1), least(level,0), count(*) FROM patient GROUP BY 1,2
SELECT nullif(ward,'w1'), count(*) FROM patient GROUP BY 1
SELECT level+1, count(*) FROM patient GROUP BY 1
SELECT round(level,1), count(*) FROM patient GROUP BY 1
SELECT abs(level), count(*) FROM patient GROUP BY 1
SELECT age, count(*) FROM patient GROUP BY age
SELECT passport, count(*) FROM patient GROUP BY passport
SELECT strftime(day,'%Y'), count(*) FROM visit GROUP BY 1
SELECT day::VARCHAR, count(*) FROM visit GROUP BY 1
SELECT day::TIMESTAMP, count(*) FROM visit GROUP BY 1
SELECT seen::DATE, count(*) FROM visit GROUP BY 1
SELECT level::VARCHAR, smokes::VARCHAR, smokes::INT, count(*) FROM patient GROUP BY ALL
SELECT level::DOUBLE, count(*) FROM patient GROUP BY ALL
SELECT epoch(seen), count(*) FROM visit GROUP BY 1
SELECT time_bucket(INTERVAL 1 DAY, seen), count(*) FROM visit GROUP BY 1
SELECT CASE WHEN sex='f' THEN ward END, count(*) FROM patient GROUP BY 1
SELECT ROW(1,2)
SELECT (ward, sex), count(*) FROM patient GROUP BY 1
SELECT count((ward,sex)) FROM patient
SELECT count(DISTINCT (ward,sex)) FROM patient
SELECT count(DISTINCT ward || sex) FROM patient
SELECT count(DISTINCT ward, sex) FROM patient
SELECT count(DISTINCT 1) FROM patient
SELECT count(DISTINCT NULL) FROM patient
SELECT count(DISTINCT CASE WHEN sex='f' THEN pid END) FROM patient
SELECT count(DISTINCT age) FROM patient
SELECT count(ward || sex), count(passport) FROM patient
SELECT count(level > 0), count(born), count(note), count(seen) FROM patient JOIN visit USING(pid)
SELECT avg(ward) FROM patient
SELECT sum(ward) FROM patient
SELECT sum(smokes), sum(level>0) FROM patient
SELECT avg(smokes) FROM patient
SELECT avg(born) FROM patient
SELECT sum(passport) FROM patient
SELECT ward FROM patient
SELECT count(*) FROM patient HAVING sum(age) > 5
SELECT 1 FROM patient HAVING count(*)>3
SELECT 1 FROM patient
SELECT 1 FROM patient GROUP BY ward
SELECT 1 WHERE EXISTS (SELECT 1 FROM patient)
SELECT (SELECT count(*) FROM patient) FROM codes
SELECT EXISTS (SELECT 1 FROM patient)
SELECT 5 IN (SELECT level FROM patient)
SELECT ward, count(*) FROM nosuch GROUP BY ward
SELECT nosuch FROM patient
SELECT nosuch(1)
SELECT count(*) FROM patient WHERE ward = (SELECT 'w1')
SELECT count(*) FROM patient WHERE ward = (SELECT label FROM codes WHERE code=1)
SELECT count(*) FROM patient WHERE ward = (SELECT max(label) FROM codes)
SELECT count(*) FROM patient WHERE level < (SELECT count(*) FROM codes)
SELECT count(*) FROM patient WHERE age < (SELECT count(*) FROM visit)
SELECT count(*) FROM patient WHERE (SELECT count(*) FROM visit) > 100
SELECT count(*) FROM patient WHERE age < (SELECT max(age) FROM patient)
SELECT count(*) FROM patient p WHERE age > (SELECT avg(age) FROM patient q WHERE q.ward=p.ward AND q.sex=p.sex)
SELECT count(*) FROM patient p WHERE age > (SELECT avg(q.age) FROM patient q WHERE q.age<p.age)
SELECT count(*) FROM patient p WHERE age > (SELECT avg(q.age)*1.1+2 FROM patient q)
SELECT count(*) FROM patient p WHERE EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid AND (v.kind='in' OR v.code=1))
SELECT count(*) FROM patient p WHERE EXISTS (SELECT 1 FROM visit v JOIN item i USING(visit_id) WHERE v.pid=p.pid AND i.drug=1)
SELECT count(*) FROM patient p WHERE EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid AND EXISTS (SELECT 1 FROM item i WHERE i.visit_id=v.visit_id AND i.drug=2))
SELECT count(*) FROM patient p WHERE EXISTS (SELECT count(*) FROM visit v WHERE v.pid=p.pid)
SELECT count(*) FROM patient p WHERE sex='f' OR EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid)
SELECT count(*) FROM patient p WHERE NOT (sex='f' AND pid IN (SELECT pid FROM visit))
SELECT sum(CASE WHEN EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid) THEN 1 ELSE 0 END) FROM patient p
SELECT count(*) FILTER (WHERE pid IN (SELECT pid FROM visit)) FROM patient
SELECT pid IN (SELECT pid FROM visit), count(*) FROM patient GROUP BY 1
SELECT ward, n FROM (SELECT ward, count(*) n FROM patient GROUP BY ward) WHERE n>3 AND ward LIKE 'w%'
WITH t AS MATERIALIZED (SELECT * FROM patient) SELECT count(*) FROM t
WITH t AS NOT MATERIALIZED (SELECT * FROM patient) SELECT count(*) FROM t a JOIN t b USING (pid)
WITH t AS (SELECT * FROM patient), t2 AS (SELECT * FROM t WHERE sex='f') SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM t2)
WITH t(a,b) AS (SELECT ward, sex FROM patient) SELECT a, count(*) FROM t GROUP BY a
WITH patient AS (SELECT 1 x) SELECT * FROM patient
WITH a AS (SELECT 1), a AS (SELECT 2) SELECT * FROM a
WITH t AS (SELECT ward, count(*) n FROM patient GROUP BY ward) SELECT count(*) FROM patient p JOIN t ON t.ward=p.ward WHERE t.n>15
WITH t AS (SELECT ward, avg(age) a FROM patient GROUP BY ward) SELECT p.ward, count(*) FROM patient p JOIN t ON t.ward=p.ward WHERE p.age>t.a GROUP BY p.ward
WITH t AS (SELECT ward, avg(age) a FROM patient GROUP BY ward) SELECT t.ward, t.a, count(*) FROM patient p JOIN t ON t.ward=p.ward GROUP BY 1,2
WITH t AS (SELECT avg(age) a FROM patient) SELECT sum(age - t.a) FROM patient, t
SELECT try_cast('x' AS INT), try(1/0)
SELECT count(*) FROM patient WHERE try(level//0) = 1
SELECT sum(TRY_CAST(note AS INT)) FROM patient
SELECT sum(CAST(note AS INT)) FROM patient
SELECT sum(length(note)), sum(year(born)) FROM patient
SELECT sum(level::DOUBLE), sum(age::DECIMAL(10,2)), sum(age::INTEGER) FROM patient
SELECT avg(age::FLOAT) FROM patient
SELECT sum(age::HUGEINT) FROM patient
SELECT fsum(age), kahan_sum(age), sum_no_overflow(1), favg(balance) FROM patient
SELECT bool_and(smokes), bool_or(smokes), any_value(ward) FROM patient
SELECT 'x' AS ward, count(*) FROM patient GROUP BY 'x'
SELECT 5 AS x, count(*) FROM patient GROUP BY x HAVING x = 5
SELECT ward w, w || 'x', count(*) FROM patient GROUP BY w
SELECT ward, count(*) n, n*2 m FROM patient GROUP BY ward HAVING m > 3
SELECT DATE '0001-01-01' - INTERVAL 5000 YEAR, count(*) FROM patient
SELECT count(*) FROM patient WHERE born > DATE '290000-01-01'
SELECT count(*) FROM patient WHERE born > 'infinity'::DATE
SELECT count(*) FROM patient WHERE born > DATE '0044-03-15 (BC)'
SELECT count(*) FROM visit WHERE seen > TIMESTAMP '294000-01-01 00:00:00'
SELECT count(*) FROM visit WHERE seen > 'epoch'::TIMESTAMP
SELECT DATE '290000-01-01', 'infinity'::DATE
SELECT make_date(999999,1,1) FROM codes
SELECT repeat('a', 1000000000)
SELECT count(*) FROM patient WHERE note = repeat('a', 100000000)
SELECT label, repeat(label, 1000000000) FROM codes
SELECT a.label FROM codes a, codes b, codes c, codes d, codes e, codes f, codes g, codes h
SELECT set_bit('1'::BIT, 0, 1)
SELECT json('{}')
SELECT '{"a":1}'->'a'
SELECT count(*) FROM patient WHERE note->'x' = 'a'
SELECT list_value(count(*), 2) FROM patient
SELECT [count(*)] FROM patient GROUP BY ward
SELECT {'n': count(*)} FROM patient
SELECT unnest([count(*), 2]) FROM patient
SELECT count(*)::VARCHAR || 'x', format('{}', count(*)), printf('%d', count(*)) FROM patient
SELECT list(n) FROM (SELECT count(*) n FROM patient GROUP BY ward)
SELECT max(n) OVER (PARTITION BY n), arg_max(n,n) FILTER (n>1) OVER () FROM (SELECT count(*) n FROM patient GROUP BY ward)
SELECT quantile_cont(n, 0.5), string_agg(n, ','), mode(n) FROM (SELECT count(*) n FROM patient GROUP BY ward)
SELECT quantile_cont(n, [0.5,0.9]) FROM (SELECT count(*) n FROM patient GROUP BY ward)
SELECT n, sum(n) OVER (ORDER BY n ROWS BETWEEN n PRECEDING AND CURRENT ROW) FROM (SELECT count(*) n FROM patient GROUP BY ward)
SELECT n FROM (SELECT count(*) n FROM patient GROUP BY ward) USING SAMPLE 2
SELECT * FROM (SELECT ward, count(*) n FROM patient GROUP BY ward) PIVOT (sum(n) FOR ward IN ('w1','w2'))
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a POSITIONAL JOIN (SELECT count(*) n FROM visit GROUP BY kind) b
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a FULL JOIN (SELECT count(*) n FROM visit GROUP BY kind) b USING (n)
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a RIGHT JOIN (SELECT count(*) n FROM visit GROUP BY kind) b USING (n)
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a ASOF JOIN (SELECT count(*) n FROM visit GROUP BY kind) b ON a.n>=b.n
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a SEMI JOIN (SELECT count(*) n FROM visit GROUP BY kind) b USING(n)
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a LEFT JOIN (SELECT count(*) n FROM visit GROUP BY kind) b ON a.n>b.n+1 OR a.n=3
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a WHERE n > (SELECT avg(n) FROM (SELECT count(*) n FROM visit GROUP BY kind))
SELECT a.n, (SELECT max(b.n) FROM (SELECT count(*) n FROM visit GROUP BY kind) b WHERE b.n<a.n) FROM (SELECT count(*) n FROM patient GROUP BY ward) a
SELECT a.n FROM (SELECT count(*) n FROM patient GROUP BY ward) a WHERE EXISTS (SELECT 1 FROM codes c WHERE c.code<a.n)
SELECT count(*) FROM patient TABLESAMPLE reservoir(5 ROWS) REPEATABLE (3)
SELECT struct_extract({'a': 1}, 'a')
SELECT t.x FROM (SELECT {'y': 1} AS x) t
SELECT x.y FROM (SELECT {'y': 1} AS x) t
SELECT count(*) FROM (SELECT 1) a, (SELECT 2) b
SELECT 1 UNION SELECT 2 ORDER BY 1 LIMIT 1
SELECT 1 INTERSECT ALL SELECT 1
SELECT 1 AS a EXCEPT ALL SELECT 2
(SELECT 1) UNION ALL (SELECT 2 LIMIT 1)
SELECT * FROM (SELECT 1) LIMIT -1
TABLE codes
FROM codes
FROM patient
SELECT count(*) FROM (FROM patient WHERE sex='f')
SELECT exclude FROM codes
SELECT count(*) FROM patient ORDER BY (SELECT count(*) FROM visit)
SELECT ward, count(*) FROM patient GROUP BY ward ORDER BY (SELECT max(fee) FROM codes), ward
SELECT lower(upper(lower(upper(ward)))), count(*) FROM patient GROUP BY 1
SELECT getvariable('x')
SELECT in_search_path('a','b')
SELECT * FROM query('SELECT 1')
SELECT * FROM query_table('patient')
SELECT count(*) FROM pragma_table_info('patient')
CALL pragma_version()
PRAGMA version
ATTACH 'x'
COPY patient TO 'x'
SET threads=1
SELECT count(*)::STRUCT(a INT) FROM patient
SELECT CAST(count(*) AS INT[]) FROM patient
SELECT array_value(1,2)
SELECT count(*) FROM patient WHERE pid = pid
SELECT count(*) FROM patient WHERE visit.pid = 1
SELECT count(*) FROM visit v JOIN visit w USING (pid, kind)
SELECT count(*) FROM visit v JOIN item i ON v.visit_id=i.visit_id+0
SELECT count(*) FROM visit v JOIN item i ON v.visit_id=i.drug
SELECT count(*) FROM item i JOIN visit v ON i.visit_id=v.visit_id JOIN visit w ON w.visit_id=i.visit_id
SELECT count(*) FROM patient WHERE random() < 0.5
SELECT count(*) FROM patient WHERE pi() > level
SELECT count(*) FILTER (WHERE now() IS NULL) FROM patient
SELECT count(*) FROM patient p JOIN codes c ON p.level = c.code AND random() < 1
