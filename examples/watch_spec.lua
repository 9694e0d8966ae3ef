describe("watch", function()
  it("says when it falls silent, once, and when it is over", function()
    local t = jet.test("watch", { config = { seconds = "30", url = "https://example.com/alarm" } })
    t:http(function() return { status = 200 } end)
    t:post { text = "hello" }
    t:advance "25s"
    assert.same({}, t:logs())
    t:advance "1h"
    local logs = t:logs()
    assert.equal(1, #logs)
    assert.equal("warn", logs[1].level)
    assert.equal(1, #t:requests())
    t:post { text = "hello again" }
    t:advance "5s"
    assert.equal("events again", t:logs()[1].text)
  end)
end)
