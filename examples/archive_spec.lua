describe("archive", function()
  it("keeps what was liked, and when, of a tenth of all likes", function()
    local t = jet.test "archive"
    for i = 1, 400 do
      t:event { collection = "app.bsky.feed.like", record = {
        subject = { uri = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa/app.bsky.feed.post/" .. i,
          cid = "bafyreidjpzlnf5zlkxrxcj3oyrlmf6y7kqzkl4xq5cnzgkmbxhqxq2xq5m" },
        createdAt = "2026-01-01T00:00:00Z" } }
    end
    local got = t:sunk "file"
    assert.is_true(#got > 10 and #got < 100)
    for _, event in ipairs(got) do
      local record = event.record
      assert.is_string(record.subject.uri)
      assert.is_nil(record.subject.cid)
      assert.is_nil(event.cid)
    end
  end)
end)
