describe("trends", function()
  local t

  before_each(function()
    t = jet.test "trends"
  end)

  it("counts tags whatever their case", function()
    t:post { text = "one", tags = { "Moon" } }
    t:post { text = "two", tags = { "moon", "lua" } }
    local answer = t:ask("GET", "/trends?n=1")
    assert.equal(200, answer.status)
    assert.same({ tags = { { tag = "moon", count = 2 } } }, (jet.json.decode(answer.body)))
  end)

  it("takes nonsense for nothing asked", function()
    t:post { text = "one", tags = { "moon" } }
    for _, n in ipairs { "1.5", "-1", "nan", "x" } do
      assert.matches("moon", t:ask("GET", "/trends?n=" .. n).body)
    end
  end)

  it("forgets what is older than ten minutes", function()
    t:post { text = "one", tags = { "moon" } }
    t:advance "11m"
    assert.equal('{"tags":[]}', t:ask("GET", "/trends").body)
  end)

  it("counts operations, and names the leader each minute", function()
    t:post { text = "one", tags = { "lua" } }
    assert.equal(1, t:metric("moonjet_script_ops_total",
      'collection="app.bsky.feed.post",op="create"'))
    t:advance "61s"
    assert.matches("#lua leads", t:logs()[1].text)
  end)
end)
