-- A script for tests/specs: says which words of specs it knows.
local words = "describe context insulate expose it test spec pending fail before_each after_each "
  .. "setup teardown strict_setup strict_teardown lazy_setup lazy_teardown finally spy stub mock "
  .. "match async busted"

for word in words:gmatch "%S+" do
  if rawget(_G, word) ~= nil then
    jet.log.info("knows %s", word)
  end
end
for module in ("luassert luassert.spy busted.runner"):gmatch "%S+" do
  if pcall(require, module) then
    jet.log.info("has %s", module)
  end
end
jet.log.info("assert is a %s", type(assert))
