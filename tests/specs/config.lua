-- A script for tests/specs: shows what it was configured with.
jet.from "*":map(function(draft)
  draft.record.config = {
    list = jet.config.list, nested = jet.config.nested, n = jet.config.n, yes = jet.config.yes,
    text = jet.config.text,
  }
  return draft
end):to(jet.stream "out")
