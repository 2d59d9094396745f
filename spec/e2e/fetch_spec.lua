-- Policies that ask another server: session:fetch over real sockets. The other server is one of khp's own, which
-- answers ordinary HTTP; where it must misbehave, it is a listener of bare bytes.

local core = require "khp.core"
local decision = require "khp.policy.decision"
local fetch = require("khp.fetch").fetch
local khp = require "khp"
local net = require "spec.support.net"

describe("a policy", function()
  local servers = {}

  local function serve(options)
    local server, url = net.serve(options)
    servers[#servers + 1] = server
    return (url:gsub("^ws", "http"))
  end

  after_each(function()
    for _, server in ipairs(servers) do
      server:close(1)
    end
    servers = {}
  end)

  it("lets another server decide, while others are not kept waiting", function()
    local asked
    local service = serve {
      policy = {
        opening = function(request)
          khp.sleep(0.05)
          asked = request
          return decision.reject(request.query == "user=joe" and 200 or 404, "It is " .. request.query)
        end,
      },
    }
    local url = serve {
      policy = {
        extended = function(request, session)
          if request.path == "/quick" then
            return decision.accept {}
          end
          local answer = assert(session:fetch(service .. "check?user=" .. request.path:sub(2), {
            method = "POST", headers = { ["X-Reason"] = "curious" }, body = "who",
          }))
          if answer.status ~= 200 then
            return decision.reject(403, answer.body)
          end
          return decision.accept {}
        end,
      },
      on_message = net.echo,
    }
    local order = {}
    for _, path in ipairs { "joe", "quick" } do
      khp.spawn(function()
        assert(khp.connect(url .. path)):close()
        order[#order + 1] = path
      end)
    end
    net.await(function()
      return #order == 2
    end)
    assert.same({ "quick", "joe" }, order)
    assert.equal("POST", asked.method)
    assert.equal("who", asked.body)
    assert.equal("curious", asked.headers["x-reason"])
    assert.matches("^127%.0%.0%.1:%d+$", asked.headers.host)
    local _, _, code, detail = khp.connect(url .. "ann")
    assert.equal("EHANDSHAKE", code)
    assert.equal("It is user=ann", detail.body)
  end)

  it("whose time is up while it asks leaves no connection behind", function()
    local service = serve {
      policy = {
        opening = function()
          khp.sleep(30)
        end,
      },
    }
    local other = servers[1]
    local url = serve {
      limits = { extended = 0.2 },
      policy = {
        extended = function(_, session)
          session:fetch(service)
        end,
      },
    }
    assert.equal(503, (select(4, khp.connect(url))).status)
    net.await(function()
      return other:stats().connections == 0
    end, "the end of the question")
  end)

  it("cannot ask without end", function()
    local sink, lines = khp.log.sink, {}
    khp.log.sink = function(_, text)
      lines[#lines + 1] = text
    end
    local url = serve {
      limits = { policy_instructions = 300000 },
      policy = {
        extended = function(_, session)
          while true do
            session:fetch "http://127.0.0.1:1/"
          end
        end,
      },
    }
    local status = (select(4, khp.connect(url))).status
    khp.log.sink = sink
    assert.equal(500, status)
    assert.matches("the instruction budget is spent", table.concat(lines))
  end)
end)

describe("fetch", function()
  local listeners = {}

  -- A server that answers each connection with these bytes, and ends it then if it is told to.
  local function answering(bytes, ends)
    local limits = require("khp.limits").defaults
    local listener = assert(core.listener.listen({ host = "127.0.0.1", port = 0, connections = 10 }, {
      bytes = function(raw)
        core.conn.write(raw, bytes)
        if ends then
          core.conn.close(raw)
        end
      end,
    }, nil, limits))
    listeners[#listeners + 1] = listener
    local _, port = core.listener.address(listener)
    return "http://127.0.0.1:" .. port .. "/"
  end

  after_each(function()
    for _, listener in ipairs(listeners) do
      core.listener.close(listener)
    end
    listeners = {}
  end)

  it("takes the body as the answer says, or until the end", function()
    local response = assert(fetch(answering "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"))
    assert.equal(200, response.status)
    assert.equal("abc", response.body)
    assert.equal("abcd", assert(fetch(answering("HTTP/1.1 200 OK\r\n\r\nabcd", true))).body)
    response = assert(fetch(answering "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"))
    assert.equal("hi", response.body)
    response = assert(fetch(answering "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"))
    assert.equal("/x", response.headers.location)
  end)

  it("says what went wrong", function()
    local function fails(code, pattern, url, given)
      local response, message, got, detail = fetch(url, given)
      assert.is_nil(response)
      assert.matches(pattern, message)
      assert.equal(code, got)
      assert.equal(url, detail.url)
    end
    fails("ECONNECT", "Connection refused", "http://127.0.0.1:1/")
    fails("ETLS", "", (answering("nonsense"):gsub("http", "https")))
    fails("EPROTOCOL", "", answering "nonsense\r\n\r\n")
    fails("ECLOSED", "in the middle", answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na", true))
    fails("ETIMEOUT", "in time", answering "HTTP/1.1 200 OK\r\n", { timeout = 0.1 })
    fails("ELIMIT", "more than 65536 bytes", answering("HTTP/1.1 200 OK\r\n\r\n" .. ("x"):rep(70000), true))
    fails("ELIMIT", "more than 65536 bytes", answering "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n")
  end)

  it("throws what the caller did wrong", function()
    for _, case in ipairs {
      { "http:// or https://", "ws://a/" },
      { "http:// or https://", 5 },
      { "did you mean 'timeout'", "http://a/", { timeot = 1 } },
      { "fetch: ", "http://a/", { method = "G T" } },
      { "fetch: ", "http://a/", { headers = { A = "b\r\nc" } } },
    } do
      local ok, message = pcall(function()
        fetch(case[2], case[3])
      end)
      assert.is_false(ok)
      assert.matches(case[1], message)
      assert.matches("fetch_spec.lua:%d+: ", message)
    end
  end)
end)
