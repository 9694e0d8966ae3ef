-- The network of a spec: whom the script asks, and who asks it.

local function texts(t)
  local list = {}
  for i, line in ipairs(t:logs()) do
    list[i] = line.text
  end
  return list
end

describe("requests", function()
  local t

  before_each(function()
    t = jet.test "net"
    t:resolve(function() return nil, "nobody" end)
    t:advance "0s"
    texts(t)
  end)

  it("are answered by the spec", function()
    t:http(function(request)
      assert.equal("https://example.com/weather?now=1", request.url)
      return { status = 203, body = "fair", headers = { ["Content-Type"] = "text/plain" } }
    end)
    t:advance "1h"
    assert.same({ "203 text/plain fair" }, texts(t))
    t:http(function() return { body = "200" } end)
    t:advance "1h"
    assert.same({ "200  200" }, texts(t))
  end)

  it("are noted", function()
    t:http(function() return {} end)
    t:advance "2h"
    local requests = t:requests()
    assert.equal(2, #requests)
    assert.equal("GET", requests[1].method)
    assert.equal("https://example.com/weather?now=1", requests[1].url)
    assert.equal("moonjet", requests[1].headers["X-Who"])
    assert.is_nil(requests[1].body)
    assert.same({}, t:requests())
  end)

  it("may fail", function()
    t:http(function() return nil, "timed out" end)
    t:advance "1h"
    t:http(function() return { body = ("x"):rep(101) } end)
    t:advance "1h"
    t:http(nil)
    t:advance "1h"
    local lines = texts(t)
    assert.equal("no weather: timed out", lines[1])
    assert.matches("larger than max_bytes", lines[2])
    assert.matches("the spec has no t:http", lines[3])
  end)

  it("may be answered with more events", function()
    t:http(function()
      t:post {}
      t:advance "10m"
      return { body = t:ask("GET", "/seen").body }
    end)
    t:advance "1h"
    assert.same({ "200  1" }, texts(t))
  end)

  it("that the spec's function cannot answer fail the spec", function()
    t:http(function() error "no such address" end)
    assert.error_matches(function() t:advance "1h" end, "no such address")
    t = jet.test "net"
    t:http(function() return { stauts = 200 } end)
    assert.error_matches(function() t:advance "1h" end, "did you mean 'status'")
    t = jet.test "net"
    t:http(function() return { headers = { ["a b"] = 1 } } end)
    assert.error_matches(function() t:advance "1h" end, "'a b' cannot be a header")
    t = jet.test "net"
    t:http(function() return "text" end)
    assert.error_matches(function() t:advance "1h" end, "returns a response")
  end)
end)

describe("DIDs and handles", function()
  it("are resolved by the spec", function()
    local t = jet.test "net"
    t:resolve(function(who)
      assert.equal("alice.example.com", who)
      return { did = "did:web:example.com", pds = "https://pds.example.com" }
    end)
    t:advance "0s"
    assert.same({ "alice: did:web:example.com https://pds.example.com" }, texts(t))
  end)

  it("are unknown without", function()
    local t = jet.test "net"
    t:advance "0s"
    assert.matches("the spec has no t:resolve", texts(t)[1])
  end)
end)

describe("routes", function()
  local t

  before_each(function()
    t = jet.test "net"
  end)

  it("are asked", function()
    t:post {}
    t:post {}
    assert.equal("2", t:ask("GET", "/seen").body)
    assert.equal("2!", t:ask("GET", "/seen?mark=%21").body)
    local answer = t:ask("POST", "/echo", "hello ", { ["X-More"] = "there" })
    assert.equal(201, answer.status)
    assert.equal("hello there", answer.body)
    assert.equal("/echo", answer.headers["x-path"])
  end)

  it("are asked by their decoded path", function()
    assert.equal("/files/a b/c+d\195\169", t:ask("GET", "/files/a%20b%2Fc+d%C3%a9").body)
    assert.equal("0", t:ask("GET", "/%73een").body)
    assert.equal(400, t:ask("GET", "/files/100%").status)
  end)

  it("may be written as addresses are, encoded", function()
    assert.equal("/a b/100%/+\195\169", t:ask("GET", "/a%20b/100%25/+%c3%a9").body)
    assert.equal("/a b/100%/+\195\169", t:ask("GET", "/a%20%62/100%25/+\195\169").body)
    assert.matches("^below ", t:ask("GET", "/a%20b/100%25/%20%c3%a9").body)
    assert.equal(404, t:ask("GET", "/a%2520b/100%25/+%c3%a9").status)
    assert.equal("below /a b/more", t:ask("GET", "/a%20b/more").body)
    assert.equal("below /a b/*", t:ask("GET", "/a%20b/*").body)
    assert.equal("a star", t:ask("GET", "/star/*").body)
    assert.equal(404, t:ask("GET", "/star/").status)
  end)

  it("have headers that are texts or numbers", function()
    assert.equal(500, t:ask("GET", "/header").status)
    assert.matches("header 'X%-List' wants a text or a number, not table", t:errors()[1])
  end)

  it("that are not there are 404", function()
    assert.equal(404, t:ask("GET", "/nothing").status)
  end)

  it("are 405 for a method they do not have, which the function does not see", function()
    local answer = t:ask("POST", "/seen")
    assert.equal(405, answer.status)
    assert.equal('{"message":"Method Not Allowed"}', answer.body)
    assert.equal("OPTIONS, GET, HEAD", answer.headers.allow)
    assert.equal("OPTIONS, POST, PUT", t:ask("GET", "/echo").headers.allow)
  end)

  it("have their preflights answered for them", function()
    local answer = t:ask("OPTIONS", "/echo")
    assert.equal(204, answer.status)
    assert.equal("", answer.body)
    assert.equal("POST, PUT, OPTIONS", answer.headers["access-control-allow-methods"])
    assert.equal("*, Authorization", answer.headers["access-control-allow-headers"])
    answer = t:ask("OPTIONS", "/nothing")
    assert.equal(204, answer.status)
    assert.equal("GET,HEAD,OPTIONS", answer.headers["access-control-allow-methods"])
  end)

  it("see HEAD as GET, and answer it without a body", function()
    local answer = t:ask("HEAD", "/status?is=200")
    assert.equal(200, answer.status)
    assert.equal("", answer.body)
    assert.equal("GET", answer.headers["x-method"])
  end)

  it("answer 204 and 304 without a body", function()
    assert.equal("a body", t:ask("GET", "/status?is=200").body)
    for _, status in ipairs { 204, 304 } do
      local answer = t:ask("GET", "/status?is=" .. status)
      assert.equal(status, answer.status)
      assert.equal("", answer.body)
    end
  end)

  it("may wait for time", function()
    local answer = t:ask("GET", "/slow")
    assert.equal("late", answer.body)
    assert.matches("^2026%-01%-01T00:00:10%.000000Z$", t:now())
  end)

  it("may wait for requests", function()
    t:http(function(request) return { body = request.url } end)
    assert.equal("<https://example.com/other>", t:ask("GET", "/proxy").body)
  end)

  it("that fail are 500, and an error of the script", function()
    assert.equal(500, t:ask("GET", "/broken").status)
    assert.matches("on purpose", t:errors()[1])
  end)
end)
