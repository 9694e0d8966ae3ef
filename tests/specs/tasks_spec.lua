-- The clock of a spec: tasks, timers and operators that go by time.

describe("the clock", function()
  local t

  before_each(function()
    t = jet.test "tasks"
  end)

  local function texts()
    local list = {}
    for i, line in ipairs(t:logs()) do
      list[i] = line.text
    end
    return list
  end

  it("stands still by itself", function()
    t:advance "0s"
    assert.equal("2026-01-01T00:00:00.000000Z", t:now())
    t:advance "1h30m"
    assert.equal("2026-01-01T01:30:00.000000Z", t:now())
    assert.error_matches(function() t:advance "soon" end, "'soon' is no duration")
  end)

  it("runs every-functions as often as time has passed", function()
    t:advance "59s"
    local before = t:metric "moonjet_script_ticks"
    t:advance "1s"
    assert.equal(before + 1, t:metric "moonjet_script_ticks")
    t:advance "1h"
    assert.equal(before + 61, t:metric "moonjet_script_ticks")
  end)

  it("counts errors of tasks", function()
    local errors = t:metric("moonjet_task_errors_total", 'script="tasks.lua"')
    t:event { collection = "app.bsky.graph.block" }
    assert.matches("spawn: on purpose", t:errors()[1])
    assert.equal(errors + 1, t:metric("moonjet_task_errors_total", 'script="tasks.lua"'))
  end)

  it("wakes sleepers when it is their time", function()
    t:advance "89999ms"
    assert.same({}, texts())
    t:advance "1h"
    assert.same("slept until 2026-01-01T00:01:30.000000Z", texts()[1])
  end)

  it("is what dedupe and limit go by", function()
    local repost = { collection = "app.bsky.feed.repost" }
    for _ = 1, 5 do
      t:event(repost)
    end
    assert.equal(1, #t:out "once")
    assert.equal(2, #t:out "slow")
    t:advance "2h"
    for _ = 1, 5 do
      t:event(repost)
    end
    assert.equal(1, #t:out "once")
    assert.equal(2, #t:out "slow")
  end)

  it("goes on while a script stops", function()
    t:stop()
    local all = texts()
    assert.matches("^stopped at 2026%-01%-01T00:00:02", all[#all])
    local before = t:metric "moonjet_script_ticks"
    t:advance "1h"
    assert.equal(before, t:metric "moonjet_script_ticks")
  end)
end)
