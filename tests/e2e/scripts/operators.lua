-- Operators that run in C, and flows that read what others put into a stream.
local commits = jet.from "#commit"

commits:keep("text"):to(jet.stream "kept")
commits:dedupe { by = "did", within = "1h" }:to(jet.stream "authors")
commits:limit { rate = "2/h", by = "collection" }:to(jet.stream "few")
commits:sample(0.5, "did"):to(jet.stream "half")
commits:sample(0.5, "did"):to(jet.stream "half-again")

jet.from(jet.stream "kept")
  :redact("text", "[gone]")
  :to(jet.stream "redacted")
