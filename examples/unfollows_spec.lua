describe("unfollows", function()
  it("knows whose follow was deleted", function()
    local me = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
    local t = jet.test("unfollows", { config = { did = me } })
    local follow = t:event { collection = "app.bsky.graph.follow", record = { subject = me } }
    local other = t:event { collection = "app.bsky.graph.follow",
      record = { subject = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb" } }
    for _, e in ipairs { follow, other } do
      t:event { collection = "app.bsky.graph.follow", op = "delete", did = e.did,
        rkey = e.rkey }
    end
    local out = t:out "unfollows"
    assert.equal(1, #out)
    assert.equal(follow.rkey, out[1].rkey)
    assert.matches("has stopped following", t:logs()[1].text)
  end)
end)
