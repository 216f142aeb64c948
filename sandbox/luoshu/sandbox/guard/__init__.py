"""The query guard: what may be asked.

`check.check_query` has DuckDB bind an analyst's SQL, lets `split` write cell queries
(stage 1) and a query over released cells (stage 2) from the bound plan, and lets
`verify` prove each cell query from the plan that DuckDB makes of it.

What must be right is the verifier: `verify`, `facts`, `fans`, `obligations`, `public`,
`cell_schema`, and the closed lists `functions` and `constants`, over the strict reader
`plan_reader` and the plain values `plan`. They import nothing of the rewriter: `split`,
`relations`, `cells`, `polynomials`, `monomials`, `sets`, `moments`, `sources`, `shapes`,
`pushdown`, `text`.
Nothing here reads data: a refusal depends on the SQL and the product's schema alone.
"""
