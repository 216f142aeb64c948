-- Queries over the clinic, one a line, that the guard accepts and whose answers are plain DuckDB's.
SELECT count(*) FROM patient
SELECT count(*), count(age), count(DISTINCT pid) FROM patient
SELECT ward, count(*) FROM patient GROUP BY ward
SELECT ward, sex, count(*), sum(age), avg(age) FROM patient GROUP BY ward, sex
SELECT sum(age+1), sum(age-balance), sum(age*balance), avg(age*2+balance) FROM patient
SELECT ward, sum(age+1), count(age+1), count(age+balance) FROM patient GROUP BY ward
SELECT sum(balance/2), avg(balance/4) FROM patient
SELECT sum(age/3) FROM patient
SELECT sum(-balance), sum(+age), avg(-age) FROM patient
SELECT sum((age-30)*(age-30)) FROM patient
SELECT sum(balance*balance), sum(balance*balance*2) FROM patient
SELECT var_samp(age), var_pop(age), stddev(age), stddev_pop(age), variance(balance) FROM patient
SELECT ward, var_samp(age), stddev_pop(balance) FROM patient GROUP BY ward
SELECT corr(age,balance), covar_pop(age,balance), covar_samp(balance,age) FROM patient
SELECT regr_slope(age,balance), regr_intercept(age,balance), regr_r2(age,balance), regr_count(age,balance) FROM patient
SELECT regr_avgx(age,balance), regr_avgy(age,balance), regr_sxx(age,balance), regr_syy(age,balance), regr_sxy(age,balance) FROM patient
SELECT ward, corr(age,balance), regr_slope(balance,age) FROM patient GROUP BY ward
SELECT var_samp(age) FILTER (WHERE sex='f'), corr(age,balance) FILTER (WHERE sex='m') FROM patient
SELECT count(DISTINCT ward), count(DISTINCT sex) FROM patient
SELECT sex, count(DISTINCT ward) FROM patient GROUP BY sex
SELECT sex, count(DISTINCT ward) FILTER (WHERE level=1), count(*) FROM patient GROUP BY sex
SELECT sex, count(DISTINCT year(born)) FROM patient GROUP BY sex
SELECT count(DISTINCT pid) FILTER (WHERE sex='f') FROM patient
SELECT ward, count(DISTINCT pid) FROM patient WHERE age>30 GROUP BY ward
SELECT ward, sex, count(*), grouping(ward), grouping(sex), grouping(ward,sex) FROM patient GROUP BY ROLLUP(ward,sex)
SELECT ward, sex, sum(age), grouping_id(ward,sex) FROM patient GROUP BY CUBE(ward,sex)
SELECT ward, sex, count(*) FROM patient GROUP BY GROUPING SETS ((ward),(sex),())
SELECT ward, count(*) FROM patient GROUP BY ROLLUP(ward) HAVING grouping(ward)=1 OR count(*)>10
SELECT coalesce(ward,'none'), count(*) FROM patient GROUP BY ROLLUP(coalesce(ward,'none'))
SELECT year(born), count(*) FROM patient GROUP BY year(born)
SELECT date_trunc('year',born), count(*), avg(age) FROM patient GROUP BY 1
SELECT date_trunc('month',day), sum(cost) FROM visit GROUP BY 1 ORDER BY 1 NULLS FIRST
SELECT month(day), quarter(day), count(*) FROM visit GROUP BY 1,2
SELECT date_part('month',seen) m, count(*) FROM visit GROUP BY m ORDER BY m
SELECT dayname(day), count(*) FROM visit GROUP BY 1
SELECT hour(seen), count(*) FROM visit GROUP BY 1
SELECT extract(year FROM day), extract(dow FROM day), count(*) FROM visit GROUP BY 1,2
SELECT monthname(day), count(*) FROM visit GROUP BY 1
SELECT last_day(day), count(*) FROM visit GROUP BY 1
SELECT upper(ward), left(ward,1), substring(ward,2,1), count(*) FROM patient GROUP BY 1,2,3
SELECT length(ward), count(*) FROM patient GROUP BY 1
SELECT smokes, count(*) FROM patient GROUP BY smokes
SELECT sum(CASE WHEN sex='f' THEN 1 ELSE 0 END), sum(CASE WHEN sex='f' THEN age END) FROM patient
SELECT sum(CASE sex WHEN 'f' THEN balance WHEN 'm' THEN -balance END) FROM patient
SELECT avg(CASE WHEN age>40 THEN balance ELSE 0 END) FROM patient
SELECT avg(CASE WHEN smokes THEN 1.0 ELSE 0 END), avg(CASE WHEN smokes THEN 1 END) FROM patient
SELECT count(CASE WHEN sex='f' THEN 1 END), count(CASE WHEN age>30 THEN balance END) FROM patient
SELECT sum(CASE WHEN age IS NULL THEN 1 ELSE 0 END), sum(CASE WHEN NOT smokes THEN 1 ELSE 0 END) FROM patient
SELECT sum(CASE WHEN smokes THEN age ELSE balance END) FROM patient
SELECT sum(if(sex='f',age,0)), sum(ifnull(age,0)), sum(coalesce(balance,1)) FROM patient
SELECT sum(coalesce(age,balance)) FROM patient
SELECT count_if(sex='f'), count_if(age>40), countif(smokes) FROM patient
SELECT sum(smokes::INT), avg((sex='f')::INT) FROM patient
SELECT count(*) FILTER (WHERE sex='f'), sum(age) FILTER (WHERE smokes), avg(balance) FILTER (WHERE level=1) FROM patient
SELECT ward, count(*) FILTER (WHERE sex='f' AND age>30) FROM patient GROUP BY ward
SELECT ward, count(*) FILTER (WHERE sex='f' OR age>30), count(*) FROM patient GROUP BY ward
SELECT count(*) FROM patient WHERE sex='f' OR ward='w1'
SELECT count(*) FROM patient WHERE NOT (sex='f' AND ward='w1')
SELECT count(*) FROM patient WHERE ward IN ('w1','w2') AND sex NOT IN ('m')
SELECT count(*) FROM patient WHERE ward NOT IN ('w1','w2')
SELECT count(*) FROM patient WHERE age BETWEEN 25 AND 45 AND balance >= -50.5
SELECT count(*) FROM patient WHERE age NOT BETWEEN 25 AND 45
SELECT count(*) FROM patient WHERE note LIKE 'Note _%' AND note NOT LIKE '%3%'
SELECT count(*) FROM patient WHERE note ILIKE 'NOTE%' AND starts_with(note,'N')
SELECT count(*) FROM patient WHERE note = '' 
SELECT count(*) FROM patient WHERE note IS NULL
SELECT count(*) FROM patient WHERE note IS DISTINCT FROM '' AND ward IS NOT DISTINCT FROM 'w1'
SELECT count(*) FROM patient WHERE smokes
SELECT count(*) FROM patient WHERE NOT smokes
SELECT count(*) FROM patient WHERE smokes IS NOT TRUE
SELECT count(*) FROM patient WHERE smokes IS FALSE
SELECT count(*) FROM patient WHERE born >= DATE '1965-01-01' AND born < DATE '1965-01-01' + INTERVAL 10 YEAR
SELECT count(*) FROM patient WHERE born BETWEEN '1965-01-01' AND '1975-12-31'
SELECT count(*) FROM visit WHERE seen > '2024-03-01' AND seen < TIMESTAMP '2024-03-05 12:00:00'
SELECT count(*) FROM visit WHERE day >= CAST('2024-03-01' AS DATE) AND cost > 3*2+1.5
SELECT count(*) FROM visit WHERE cost > 10.555
SELECT count(*) FROM visit WHERE cost = 1e1
SELECT count(*) FROM visit WHERE code < 2.5
SELECT kind, count(*), sum(cost) FROM visit GROUP BY kind HAVING count(*) > 20
SELECT kind, sum(cost) s FROM visit GROUP BY kind HAVING sum(cost) > 100 ORDER BY s DESC
SELECT code, count(*) c FROM visit GROUP BY code ORDER BY c DESC, code LIMIT 3
SELECT code, count(*) c FROM visit GROUP BY code ORDER BY code NULLS FIRST LIMIT 2 OFFSET 1
SELECT code, count(*) c FROM visit GROUP BY code ORDER BY code DESC OFFSET 2
SELECT kind, round(avg(cost),2), sum(cost)/count(*), sum(cost)*100.0/sum(sum(cost)) OVER () FROM visit GROUP BY kind
SELECT kind, count(*), rank() OVER (ORDER BY count(*) DESC) FROM visit GROUP BY kind
SELECT kind, code, count(*) c, row_number() OVER (PARTITION BY kind ORDER BY count(*) DESC, code) FROM visit GROUP BY kind, code
SELECT kind, code, sum(count(*)) OVER (PARTITION BY kind ORDER BY code ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM visit GROUP BY kind, code
SELECT code, sum(cost), lag(sum(cost)) OVER (ORDER BY code), lead(sum(cost),2,0) OVER (ORDER BY code) FROM visit GROUP BY code
SELECT code, first_value(sum(cost)) OVER (ORDER BY code), last_value(sum(cost)) OVER (ORDER BY code), nth_value(sum(cost),2) OVER (ORDER BY code) FROM visit GROUP BY code
SELECT code, ntile(3) OVER (ORDER BY code), percent_rank() OVER (ORDER BY code), cume_dist() OVER (ORDER BY code), dense_rank() OVER (ORDER BY code) FROM visit GROUP BY code
SELECT * FROM (SELECT kind, code, count(*) c, row_number() OVER (PARTITION BY kind ORDER BY count(*) DESC, code) r FROM visit GROUP BY kind, code) WHERE r=1
SELECT p.ward, count(*), sum(v.cost) FROM patient p JOIN visit v ON p.pid=v.pid GROUP BY p.ward
SELECT p.ward, v.kind, avg(v.cost) FROM patient p JOIN visit v USING (pid) GROUP BY 1,2
SELECT p.ward, count(*), count(v.visit_id), sum(v.cost), count(v.cost) FROM patient p LEFT JOIN visit v ON p.pid=v.pid GROUP BY p.ward
SELECT p.ward, count(*) FROM patient p LEFT JOIN visit v ON p.pid=v.pid AND v.kind='in' GROUP BY p.ward
SELECT count(*) FROM patient p LEFT JOIN visit v ON p.pid=v.pid WHERE v.visit_id IS NULL
SELECT count(*) FROM patient p LEFT JOIN visit v ON p.pid=v.pid AND v.cost>0 WHERE v.kind IS NULL
SELECT v.kind, sum(i.amount), sum(i.amount*i.price) FROM visit v JOIN item i ON v.visit_id=i.visit_id GROUP BY v.kind
SELECT v.kind, count(*), count(i.amount) FROM visit v LEFT JOIN item i ON v.visit_id=i.visit_id GROUP BY v.kind
SELECT p.sex, sum(i.price) FROM patient p, visit v, item i WHERE p.pid=v.pid AND v.visit_id=i.visit_id AND v.kind<>'in' GROUP BY p.sex
SELECT count(*) FROM patient p JOIN item i ON p.pid=i.unit_of_item
SELECT d.maker, sum(i.amount) FROM item i JOIN drugs d ON i.drug=d.drug GROUP BY d.maker
SELECT d.maker, count(*) FROM item i LEFT JOIN drugs d ON i.drug=d.drug AND d.since>DATE '2021-01-01' GROUP BY d.maker
SELECT c.label, sum(v.cost), count(*) FROM visit v LEFT JOIN codes c ON v.code=c.code GROUP BY c.label
SELECT sum(v.cost*c.fee), sum(c.fee), avg(c.fee) FROM visit v JOIN codes c ON v.code=c.code
SELECT c.label, sum(v.cost*(1-c.fee)) FROM visit v JOIN codes c ON v.code=c.code GROUP BY c.label
SELECT count(*) FROM visit v JOIN codes c ON v.code=c.code WHERE c.fee>1 AND v.cost>0
SELECT count(*) FROM visit v JOIN codes c ON v.code=c.code WHERE c.label='one' OR v.kind='in'
SELECT count(*) FROM visit v, codes c, drugs d WHERE v.code=c.code AND c.code=d.drug AND d.maker='acme'
SELECT count(*) FROM visit WHERE code IN (SELECT code FROM codes WHERE fee>0)
SELECT count(*) FROM visit WHERE code NOT IN (SELECT code FROM codes WHERE fee>0)
SELECT count(*) FROM visit WHERE kind NOT IN (SELECT label FROM codes)
SELECT count(*) FROM visit v WHERE EXISTS (SELECT 1 FROM codes c WHERE c.code=v.code AND c.label IS NULL)
SELECT count(*) FROM visit v WHERE NOT EXISTS (SELECT 1 FROM codes c WHERE c.code=v.code)
SELECT count(*) FROM patient p WHERE EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid AND v.kind='in')
SELECT count(*) FROM patient p WHERE NOT EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid AND v.cost>20)
SELECT ward, count(*) FROM patient WHERE pid IN (SELECT pid FROM visit WHERE code=2) GROUP BY ward
SELECT count(*) FROM patient WHERE pid NOT IN (SELECT pid FROM visit WHERE code=2)
SELECT count(*) FROM patient p WHERE level IN (SELECT code FROM visit v WHERE v.pid=p.pid)
SELECT count(*) FROM patient p WHERE level NOT IN (SELECT code FROM visit v WHERE v.pid=p.pid)
SELECT count(*) FROM patient p WHERE EXISTS (SELECT 1 FROM visit v WHERE v.pid=p.pid AND v.code>p.level)
SELECT count(*) FROM visit v WHERE EXISTS (SELECT 1 FROM item i WHERE i.visit_id=v.visit_id AND i.amount>5)
SELECT count(*) FROM visit v WHERE EXISTS (SELECT 1 FROM visit w WHERE w.pid=v.pid AND w.code<>v.code)
SELECT kind, count(*) FROM visit v WHERE NOT EXISTS (SELECT 1 FROM visit w WHERE w.pid=v.pid AND w.day>v.day) GROUP BY kind
SELECT count(*) FROM visit v WHERE v.cost > (SELECT avg(w.cost) FROM visit w WHERE w.pid=v.pid)
SELECT count(*) FROM visit v WHERE v.cost > (SELECT avg(w.cost) FROM visit w WHERE w.kind=v.kind)
SELECT count(*) FROM visit v WHERE v.cost > (SELECT avg(w.cost) FROM visit w)
SELECT count(*) FROM visit v WHERE v.cost >= (SELECT 2*avg(w.cost) FROM visit w WHERE w.cost IS NOT NULL)
SELECT count(*) FROM visit v WHERE v.cost > (SELECT max(fee) FROM codes)
SELECT count(*) FROM visit v WHERE v.cost > (SELECT max(c.fee) FROM codes c WHERE c.code=v.code)
SELECT avg(n) FROM (SELECT pid, count(*) n FROM visit GROUP BY pid)
SELECT avg(n), sum(n), count(*) FROM (SELECT pid, sum(cost) n FROM visit GROUP BY pid)
SELECT avg(s), sum(s) FROM (SELECT pid, sum(cost*2-1) s FROM visit GROUP BY pid)
SELECT n, count(*) FROM (SELECT p.pid, count(v.visit_id) n FROM patient p LEFT JOIN visit v ON p.pid=v.pid GROUP BY p.pid) GROUP BY n
SELECT n, count(*) FROM (SELECT pid, count(*) n FROM visit GROUP BY pid) GROUP BY n ORDER BY n
SELECT ward, avg(n) FROM (SELECT p.pid, p.ward, count(*) n FROM patient p JOIN visit v USING(pid) GROUP BY p.pid, p.ward) GROUP BY ward
SELECT count(*) FROM (SELECT pid FROM visit GROUP BY pid HAVING count(*)>2)
SELECT count(*) FROM (SELECT pid, sum(cost) s FROM visit GROUP BY pid HAVING sum(cost)>30 AND count(*)>1)
SELECT kind, count(*) FROM (SELECT DISTINCT pid, kind FROM visit) GROUP BY kind
SELECT count(*) FROM (SELECT pid, max(cost) m FROM visit GROUP BY pid) WHERE m > 20
SELECT avg(m) FROM (SELECT pid, max(cost) m, min(cost) FROM visit GROUP BY pid)
SELECT sum(m) FROM (SELECT pid, min(cost) m FROM visit GROUP BY pid)
SELECT sum(n) FROM (SELECT visit_id, count(*) n FROM item GROUP BY visit_id)
SELECT avg(n) FROM (SELECT visit_id, sum(amount) n FROM item GROUP BY visit_id)
SELECT kind, avg(s) FROM (SELECT v.visit_id, v.kind, sum(i.price) s FROM visit v JOIN item i USING(visit_id) GROUP BY v.visit_id, v.kind) GROUP BY kind
WITH a AS (SELECT pid, count(*) n FROM visit GROUP BY pid) SELECT p.ward, avg(a.n) FROM patient p JOIN a ON a.pid=p.pid GROUP BY p.ward
WITH a AS (SELECT pid, kind, cost FROM visit WHERE cost>5) SELECT x.kind, count(*) FROM a x JOIN a y ON x.pid=y.pid GROUP BY x.kind
WITH a AS (SELECT kind, count(*) n FROM visit GROUP BY kind) SELECT x.kind, x.n, y.n FROM a x JOIN a y ON x.n>y.n
WITH a AS (SELECT kind, count(*) n FROM visit GROUP BY kind), t AS (SELECT sum(n) s FROM a) SELECT kind, n*1.0/s FROM a, t
WITH a AS (SELECT * FROM visit WHERE kind='in'), b AS (SELECT * FROM visit WHERE kind='out') SELECT (SELECT count(*) FROM a), (SELECT sum(cost) FROM b)
SELECT 'in' k, count(*) FROM visit WHERE kind='in' UNION ALL SELECT 'out', count(*) FROM visit WHERE kind='out'
SELECT ward FROM patient GROUP BY ward UNION SELECT kind FROM visit GROUP BY kind
SELECT ward FROM patient GROUP BY ward EXCEPT SELECT 'w1'
SELECT ward FROM patient GROUP BY ward INTERSECT SELECT 'w1'
SELECT DISTINCT ward FROM patient
SELECT DISTINCT sex, smokes FROM patient WHERE age>25
SELECT DISTINCT count(*) FROM patient GROUP BY ward
SELECT a.kind, a.n, b.s FROM (SELECT kind, count(*) n FROM visit GROUP BY kind) a LEFT JOIN (SELECT kind, sum(cost) s FROM visit WHERE code=1 GROUP BY kind) b ON a.kind=b.kind
SELECT c.label, v.n FROM codes c LEFT JOIN (SELECT code, count(*) n FROM visit GROUP BY code) v ON c.code=v.code
SELECT c.label, v.n FROM codes c JOIN (SELECT code, count(*) n FROM visit GROUP BY code) v USING (code) WHERE v.n>10 ORDER BY v.n DESC, label
SELECT (SELECT count(*) FROM patient), (SELECT count(*) FROM visit)
SELECT count(*) * 2 + 1, 'x' || count(*), sqrt(count(*)) FROM patient
SELECT CASE WHEN count(*)>50 THEN 'many' ELSE 'few' END FROM patient
SELECT CASE WHEN ward='w1' THEN 'one' ELSE 'other' END g, count(*) FROM patient GROUP BY g
SELECT CASE WHEN age<30 THEN 'young' WHEN age<45 THEN 'mid' ELSE 'old' END g, count(*), avg(balance) FROM patient GROUP BY g
SELECT CASE WHEN age<30 THEN 1 WHEN age>=30 THEN 2 END g, count(*) FROM patient GROUP BY 1 ORDER BY 1
SELECT ward IS NULL, count(*) FROM patient GROUP BY 1
SELECT sex='f' AND true, count(*) FROM patient GROUP BY 1
SELECT coalesce(ward,'?'), count(*) FROM patient GROUP BY 1
SELECT ward || '!', count(*) FROM patient GROUP BY ward
SELECT 1, count(*) FROM patient
SELECT count(*) FROM patient WHERE 1=1 AND true
SELECT count(*) FROM patient WHERE 1=0
SELECT sum(age), ward FROM patient WHERE false GROUP BY ward
SELECT count(1), count('x'), count(NULL), sum(1), sum(2.5), avg(3) FROM patient
SELECT sum(NULL::INT) FROM patient
SELECT label, fee*2 FROM codes ORDER BY code
SELECT c.label, d.maker FROM codes c LEFT JOIN drugs d ON c.code=d.drug
SELECT label FROM codes WHERE code IN (SELECT drug FROM drugs WHERE maker='acme')
SELECT count(*) FROM codes c, drugs d WHERE c.code < d.drug
SELECT sum(level), sum(level*age), count(level) FROM patient
SELECT level, avg(age), count(*) FROM patient WHERE level IN (-1,0) GROUP BY level
SELECT count(*) FROM visit v JOIN visit w ON v.visit_id=w.visit_id
SELECT v.kind, w.kind, count(*) FROM visit v, visit w WHERE v.pid=w.pid AND v.day<w.day GROUP BY ALL
FROM visit SELECT kind, count(*) GROUP BY kind
SELECT kind AS k, count(*) AS n FROM visit GROUP BY k HAVING n > 3 ORDER BY n
SELECT p.* EXCLUDE (x) FROM (SELECT kind, 1 x, count(*) n FROM visit GROUP BY kind) p
SELECT count(*) FROM patient WHERE length(note) > 3 AND contains(note,'5')
SELECT count(*) FROM patient WHERE TRY_CAST(note AS INT) IS NULL
SELECT count(*) FROM patient WHERE year(born)=1970 OR year(born)=1971
SELECT avg(age) - avg(balance), avg(age)/nullif(count(*),0) FROM patient
SELECT sum(age)::DOUBLE / sum(age) FROM patient
SELECT kind, max(n) FROM (SELECT kind, code, count(*) n FROM visit GROUP BY kind, code) GROUP BY kind
SELECT avg(n), max(n), min(n), count(*) FROM (SELECT ward, count(*) n FROM patient GROUP BY ward)
SELECT count(*) FROM (SELECT ward, sex FROM patient GROUP BY ward, sex)
SELECT ward, count(*) FROM patient GROUP BY ward QUALIFY row_number() OVER (ORDER BY count(*) DESC, ward) <= 2
SELECT sum(i.amount * d.drug) FROM item i JOIN drugs d ON i.drug=d.drug
SELECT p.ward, (SELECT count(*) FROM visit v WHERE v.kind = 'in') FROM patient p GROUP BY p.ward
SELECT sum(n) FILTER (WHERE n>2), count(*) FILTER (WHERE n=1) FROM (SELECT pid, count(*) n FROM visit GROUP BY pid)
SELECT sum(CASE WHEN n>2 THEN n ELSE 0 END) FROM (SELECT pid, count(*) n FROM visit GROUP BY pid)
SELECT count(*) FROM patient p JOIN (SELECT pid, count(*) n FROM visit GROUP BY pid) v USING(pid) JOIN (SELECT unit_of_item pid, sum(amount) a FROM item GROUP BY unit_of_item) i USING(pid) WHERE n>1 AND a>3
SELECT count(*) FROM patient LEFT JOIN (SELECT pid, count(*) n FROM visit GROUP BY pid) v USING(pid) WHERE n IS NULL
SELECT p.sex, c.label, count(*) FROM patient p LEFT JOIN visit v USING(pid) LEFT JOIN codes c ON v.code=c.code GROUP BY ALL
SELECT p.sex, count(DISTINCT v.kind) FROM patient p LEFT JOIN visit v USING(pid) GROUP BY p.sex
SELECT p.sex, count(DISTINCT v.pid) FROM patient p LEFT JOIN visit v USING(pid) GROUP BY p.sex
SELECT count(DISTINCT v.pid), count(v.pid) FROM patient p LEFT JOIN visit v USING(pid)
SELECT sum(0), count(*) FROM patient
SELECT sum(age*0), sum(age*0+1) FROM patient
SELECT sum(age-age), avg(age-age+1) FROM patient
SELECT sum(balance*age*level) FROM patient
SELECT avg(balance*0.1+age*0.25) FROM patient
SELECT sum(balance*1.5e0) FROM patient
SELECT ward, sum(balance)/sum(age), round(sum(balance)*1.0/count(age), 3) FROM patient GROUP BY ward
SELECT count(*) FROM patient WHERE ward > 'w1' AND ward <= 'w3'
SELECT count(*) FROM patient WHERE ward = sex OR ward <> sex
SELECT k, sum(x), count(*), count(x), avg(x) FROM (SELECT kind AS k, cost AS x FROM visit WHERE code = 1 UNION ALL SELECT kind, cost FROM visit WHERE code > 2) GROUP BY k
SELECT sum(x), count(*) FROM (SELECT cost AS x FROM visit UNION ALL SELECT price FROM item)
SELECT k, count(*) FROM (SELECT 'a' AS k, pid FROM visit UNION ALL SELECT 'b', unit_of_item FROM item) GROUP BY k
SELECT k, count(DISTINCT u) FROM (SELECT kind AS k, pid AS u FROM visit WHERE code = 1 UNION ALL SELECT kind, pid FROM visit WHERE code > 2) GROUP BY k
SELECT count(DISTINCT u) FROM (SELECT pid AS u FROM visit UNION ALL SELECT unit_of_item FROM item UNION ALL SELECT pid FROM patient WHERE smokes)
WITH e AS (SELECT pid AS u, cost AS x, kind AS k FROM visit UNION ALL SELECT pid, balance, ward FROM patient) SELECT p.sex, sum(e.x), count(DISTINCT u) FROM e JOIN patient p ON e.u = p.pid GROUP BY p.sex
SELECT k, sum(x) FROM (SELECT kind AS k, cost AS x FROM visit UNION ALL SELECT 'in', price FROM item) WHERE k = 'in' GROUP BY k
SELECT k, var_pop(x), stddev(x) FROM (SELECT kind AS k, cost AS x FROM visit WHERE code < 3 UNION ALL SELECT kind, cost FROM visit WHERE code >= 3) GROUP BY k
SELECT sum(CASE WHEN c > 2 THEN x ELSE 0 END) FROM (SELECT cost AS x, code AS c FROM visit WHERE kind = 'in' UNION ALL SELECT cost, code FROM visit WHERE kind = 'out')
SELECT k, count(*), GROUPING(k) FROM (SELECT 'a' AS k, pid FROM visit UNION ALL SELECT 'b', unit_of_item FROM item) GROUP BY ROLLUP (k)
SELECT k, j, count(*) FROM (SELECT 'a' AS k, kind AS j FROM visit UNION ALL SELECT 'b', kind FROM visit) GROUP BY k, j
SELECT count(DISTINCT k) FROM (SELECT kind AS k FROM visit WHERE code = 1 UNION ALL SELECT kind FROM visit WHERE code > 2)
SELECT DISTINCT k FROM (SELECT kind AS k FROM visit WHERE code = 1 UNION ALL SELECT kind FROM visit WHERE code > 2)
SELECT count(*) FILTER (WHERE x > 5), count(DISTINCT u) FILTER (WHERE x > 5) FROM (SELECT pid AS u, cost AS x FROM visit WHERE kind = 'in' UNION ALL SELECT pid, cost FROM visit WHERE kind = 'out')
SELECT avg(s) FROM (SELECT pid, sum(cost) AS s FROM visit GROUP BY pid UNION ALL SELECT unit_of_item, sum(price) FROM item GROUP BY unit_of_item)
SELECT k, sum(x) AS s FROM (SELECT ward AS k, balance AS x FROM patient UNION ALL SELECT ward, balance FROM patient) GROUP BY k ORDER BY s LIMIT 2
SELECT 'a' AS k, count(*) FROM patient UNION ALL SELECT 'b', count(*) FROM visit
SELECT ward, count(*) FROM patient GROUP BY ward UNION ALL SELECT NULL, count(*) FROM patient
SELECT label, sum(x) FROM (SELECT code AS c, cost AS x FROM visit WHERE kind = 'in' UNION ALL SELECT code, cost FROM visit WHERE kind = 'out') JOIN codes ON c = codes.code GROUP BY label
SELECT k, sum(2 * x + 1) FROM (SELECT kind AS k, cost AS x FROM visit WHERE code = 1 UNION ALL SELECT kind, -cost FROM visit WHERE code > 2) GROUP BY k
SELECT sum(x) FROM (SELECT age AS x FROM patient WHERE sex = 'f' UNION ALL SELECT level FROM patient)
SELECT count(*) FROM (SELECT * FROM patient UNION ALL SELECT * FROM patient)
WITH e AS (SELECT pid AS u, cost AS x FROM visit UNION ALL SELECT unit_of_item, price FROM item) SELECT sum(a.x) FROM e a JOIN e b ON a.u = b.u
SELECT sum(x) FROM (SELECT cost AS x FROM visit UNION ALL SELECT NULL FROM item)
SELECT sum(x) FROM (SELECT pid AS u, cost AS x FROM visit UNION ALL SELECT unit_of_item, price FROM item) e LEFT JOIN patient p ON e.u = p.pid WHERE p.sex = 'f'
SELECT sum(CASE WHEN src = 'v' THEN x ELSE 0 END), sum(x) FILTER (WHERE src = 'i'), count(DISTINCT u) FILTER (WHERE src = 'v'), count(*) FROM (SELECT 'v' AS src, pid AS u, cost AS x FROM visit UNION ALL SELECT 'i', unit_of_item, price FROM item)
SELECT count(*) FROM (SELECT 'v' AS src, pid AS u FROM visit UNION ALL SELECT 'i', unit_of_item FROM item) WHERE src = 'z'
SELECT count(*) FILTER (WHERE 1 = 0), sum(age) FILTER (WHERE 1 = 0), count(*) FROM patient
SELECT sum(CASE WHEN 1 = 1 THEN age ELSE 2 * age END) FROM patient WHERE 1 = 1 OR sex = 'f'
SELECT src, count(DISTINCT u) FROM (SELECT 'v' AS src, pid AS u, cost AS x FROM visit UNION ALL SELECT 'p', pid, balance FROM patient) WHERE src = 'v' OR x > 10 GROUP BY src
SELECT count(DISTINCT u) FROM (SELECT 'v' AS src, pid AS u, cost AS x FROM visit UNION ALL SELECT 'p', pid, balance FROM patient) WHERE src = 'v' OR x > 10
SELECT k, count(*) FROM (SELECT sex AS k FROM patient WHERE smokes OR level = 1 UNION ALL SELECT sex FROM patient WHERE age > 30) GROUP BY k
SELECT count(DISTINCT u) FROM (SELECT pid AS u FROM visit WHERE kind = 'in' OR code = 2 UNION ALL SELECT pid FROM patient WHERE smokes OR level = 1)
SELECT l, sum(age) FROM patient JOIN (SELECT 'w1' AS w, 'north' AS l UNION ALL SELECT 'w2', 'south') m ON ward = w GROUP BY l
