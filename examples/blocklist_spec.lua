describe("blocklist", function()
  it("keeps blocked accounts off the main stream, from the moment they are in the set", function()
    local troll = "did:plc:tttttttttttttttttttttttt"
    local t = jet.test "blocklist"
    t:post({ text = "before" }, { did = troll })
    t:set "blocked":add(troll)
    t:post({ text = "after" }, { did = troll })
    t:post { text = "somebody else" }
    assert.equal(2, #t:out "main")
    local out = t:out "blocked"
    assert.equal(1, #out)
    assert.equal("after", out[1].record.text)
  end)
end)
