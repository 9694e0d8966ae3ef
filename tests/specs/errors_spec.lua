-- What is said of errors that are no texts.

describe("an error", function()
  local t

  before_each(function()
    t = jet.test "errors"
  end)

  for _, where in ipairs { "sync", "task", "inner" } do
    local function said(kind)
      t:post { text = kind .. " " .. where }
      local errors = t:errors()
      assert.equal(1, #errors)
      return errors[1]
    end

    it("that is an object says what __tostring does: " .. where, function()
      assert.matches("the object's words", said "told")
      assert.matches("^errors%.lua:7 [%w#]+: the object's place", said "placed")
    end)

    it("whose __tostring is none, or fails, is no text: " .. where, function()
      for _, kind in ipairs { "bare", "number", "failing", "nested", "waiting" } do
        assert.matches("an error that is no text", said(kind))
      end
    end)

    it("whose __tostring does not end is a strike: " .. where, function()
      assert.matches("an error that is no text.*1 strike", said "endless")
      assert.equal(1, t:metric "moonjet_script_stopped_total")
    end)

    it("is not cut at a zero byte: " .. where, function()
      assert.matches("a\\0b\\0", said "zero")
    end)
  end
end)
