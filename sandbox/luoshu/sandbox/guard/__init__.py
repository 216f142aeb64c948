"""The query guard: what may be asked.

`check.check_query` parses and binds an analyst's SQL with DuckDB, lets `split`
rewrite it into stage 1 (cells) and stage 2 (the analyst's select list over
released cells), and lets `verify` prove stage 1 safe from DuckDB's bound plan.
`verify` and `plan` are what must be right; they import nothing of `split`.
Nothing here reads data: a refusal depends on the SQL and the product's schema
alone.
"""
