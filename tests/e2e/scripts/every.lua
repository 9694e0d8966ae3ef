-- A stream that is everything, for comparing with main.
jet.from { kind = { "commit", "identity", "account" } }:to(jet.stream "every")
