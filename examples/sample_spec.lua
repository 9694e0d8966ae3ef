describe("sample", function()
  it("takes three posts an hour of an account", function()
    local t = jet.test("sample", { config = { part = "1" } })
    for i = 1, 5 do
      t:post { text = "post " .. i }
    end
    assert.equal(3, #t:out "sample")
    t:advance "61m"
    t:post { text = "post 6" }
    assert.equal(1, #t:out "sample")
  end)

  it("takes a text once in half an hour, from whomever", function()
    local t = jet.test("sample", { config = { part = "1" } })
    t:post({ text = "Buy now" }, { did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" })
    t:post({ text = "buy NOW" }, { did = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb" })
    assert.equal(1, #t:out "sample")
  end)

  it("takes all posts of an account or none", function()
    local t = jet.test("sample", { config = { part = "0.5" } })
    for i = 1, 200 do
      local did = ("did:plc:%s"):format(("a"):rep(21) .. ("%03d"):format(i):gsub("%d", function(d)
        return ("bcdefghijk"):sub(d + 1, d + 1)
      end))
      t:post({ text = "first " .. i }, { did = did })
      t:post({ text = "second " .. i }, { did = did })
    end
    local out = t:out "sample"
    assert.is_true(#out > 100 and #out < 300)
    for i = 1, #out, 2 do
      assert.equal(out[i].did, out[i + 1].did)
    end
  end)
end)
