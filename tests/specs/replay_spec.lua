-- Recorded events: a capture of frames, and the same events as Jetstream's lines.

describe("recordings", function()
  local t

  before_each(function()
    t = jet.test "everything"
  end)

  it("are replayed from frames and from lines, the same", function()
    assert.equal(3, t:replay "recorded.bin")
    local frames = t:out "all"
    assert.equal(3, #frames)
    assert.equal(3, t:replay "recorded.jsonl")
    local lines = t:out "all"
    for i = 1, 3 do
      assert.is_true(frames[i].seq > 0)
      for _, field in ipairs { "uri", "cid", "op", "rev", "record" } do
        assert.same(frames[i][field], lines[i][field], field)
      end
    end
  end)

  it("go through the script's flows", function()
    t:replay "recorded.bin"
    assert.equal(t:now(), t:out("seen")[3].record.seen)
    assert.equal(3, t:metric "moonjet_script_events")
  end)

  it("that are none are errors that name the file", function()
    assert.error_matches(function() t:replay "nosuch.bin" end, "nosuch.bin: No such file")
    assert.error_matches(function() t:replay "events_spec.lua" end, "events_spec.lua:1: no event")
    assert.error_matches(function() t:replay "." end, "directory")
  end)
end)
