-- Where a response leads the client next, over real sockets: redirects between servers (E12), TLS on demand (S426).

local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local http = require "khp.http"
local khp = require "khp"
local net = require "spec.support.net"

local accept, challenge, redirect, reject = decision.accept, decision.challenge, decision.redirect, decision.reject

describe("the client is led", function()
  local servers = {}

  -- A server of ours: its URL, port, and what it was asked, in order.
  local function serve(options)
    local asked, policy = {}, options.policy or {}
    local opening, extended = policy.opening, policy.extended
    options.policy = {
      opening = function(request, session)
        asked[#asked + 1] = { "opening", request }
        return opening and opening(request, session)
      end,
      extended = function(request, session)
        asked[#asked + 1] = { "extended", request }
        return extended and extended(request, session)
      end,
    }
    options.on_message = options.on_message or net.echo
    local server, url, port = net.serve(options)
    servers[#servers + 1] = server
    return url, asked, port, server
  end

  -- What the extended handshake answers, by path.
  local function leads(paths)
    return {
      policy = {
        extended = function(request)
          local to = paths[request.path]
          return to and redirect(to, { status = paths.status })
        end,
      },
    }
  end

  after_each(function()
    for _, server in ipairs(servers) do
      server:close(1)
    end
    servers = {}
  end)

  local function refused(url, options, code, pattern)
    local conn, message, got, detail = khp.connect(url, options)
    assert.is_nil(conn)
    assert.equal(code, got, message)
    assert.truthy(message:find(pattern), message)
    return detail
  end

  for _, status in ipairs { 300, 301, 302, 303, 307 } do
    it(("by %d to another server, on a fresh connection [E12 S%d]"):format(status, status), function()
      local target, there = serve { protocols = { "b" } }
      local paths = { ["/from"] = target .. "to?x=1", status = status }
      local first, here, _, server = serve(leads(paths))
      local conn = assert(khp.connect(first .. "from", { protocols = { "a", "b" }, extensions = { "x-one", "x-two" } }))
      assert.equal(target .. "to?x=1", conn.url)
      assert.equal("b", conn.protocol)
      assert.same({ "opening", "extended" }, { here[1][1], here[2][1] })
      assert.same({ "opening", "extended" }, { there[1][1], there[2][1] })
      assert.is_nil(there[3])
      for i = 1, 2 do -- the same is asked for there
        assert.equal("/to?x=1", there[i][2].target)
        local names = {}
        for _, one in ipairs(there[i][2].extensions) do
          names[#names + 1] = one.name
        end
        assert.same({ "x-one", "x-two" }, names)
      end
      assert.same({ "x-kaazing-handshake", "a", "b" }, there[1][2].protocols)
      assert.equal("a, b", there[2][2].headers["sec-websocket-protocol"])
      conn:send "there"
      assert.equal("there", (conn:receive(5)))
      net.await(function()
        return server:stats().connections == 0
      end, "the first connection to be closed")
      conn:close()
    end)

    it(("by %d of the opening as well [E12 S%d]"):format(status, status), function()
      local target = serve {}
      local first, here = serve { policy = {
        opening = function()
          return redirect(target, { status = status })
        end,
      } }
      local conn = assert(khp.connect(first))
      assert.equal(target, conn.url)
      assert.equal(1, #here)
      conn:close()
    end)
  end

  it("by http URLs and relative ones, and closes the old WebSocket with 1000 [E12]", function()
    local target, there = serve(leads { ["/b/c"] = "../d?e", ["/d"] = "//" .. "127.0.0.1:%d/f" })
    local code
    local server = hand.server(function(peer)
      peer:agree()
      peer:extended()
      peer:binary("HTTP/1.1 302 Found\r\nLocation: " .. target:gsub("^ws", "http") .. "b/c#fragment\r\n\r\n")
      code = peer:closed()
      peer:close(code)
    end)
    servers[#servers + 1] = server
    refused(server.url, nil, "EREDIRECT", "bad URL") -- %d is no port
    assert.equal(1000, code)
    assert.same({ "/b/c", "/d?e" }, { there[2][2].target, there[4][2].target })
  end)

  it("no more often than it may, and never in circles [E12]", function()
    local url, asked = serve { policy = {
      extended = function(request)
        if request.path == "/circle" then
          return redirect "/other"
        elseif request.path == "/other" then
          return redirect "/circle"
        elseif request.path == "/self" then
          return redirect "/self"
        end
        return redirect("/" .. tonumber(request.path:sub(2)) + 1)
      end,
    } }
    local detail = refused(url .. "0", nil, "EREDIRECT", "number 6 in a row")
    assert.equal(6, #detail.urls)
    assert.same({ 302, "/6", url .. "5" }, { detail.status, detail.location, detail.url })
    refused(url .. "0", { limits = { redirects = 2 } }, "EREDIRECT", "number 3 in a row")
    assert.equal(2 * (6 + 3), #asked)
    refused(url .. "circle", nil, "EREDIRECT", "loop")
    refused(url .. "self", nil, "EREDIRECT", "loop")
    assert.equal(2 * (6 + 3 + 2 + 1), #asked)
  end)

  it("where its policy or its option lets it, or elsewhere [E12]", function()
    local third = serve {}
    local target = serve {}
    local first = serve(leads { ["/"] = target })
    for _, rule in ipairs { "never", "same-origin" } do
      refused(first, { redirects = rule }, "EREDIRECT", "the rule is " .. rule:gsub("%-", "%%-"))
    end
    assert(khp.connect(first, { redirects = "same-domain" })):close()
    local asked
    local answers = { false, true, third }
    local expected = { false, target, third }
    for i, answer in ipairs(answers) do
      local conn = khp.connect(first, {
        policy = {
          redirect = function(location, from, count)
            asked = { location, from, count }
            return answer
          end,
        },
      })
      assert.same({ target, first, 1 }, asked)
      assert.equal(expected[i], conn and conn.url or false)
      if conn then
        conn:close()
      end
    end
  end)

  it("with its policy, but without what is secret to the first server [E12 E13]", function()
    local members = {
      extended = function(request, session)
        if not session:basic(request, { joe = "secret" }) then
          return challenge 'Basic realm="r"'
        end
      end,
    }
    local target, there = serve { policy = members }
    local first, here = serve(leads { ["/"] = target })
    local headers = { Authorization = "Basic eDp5", Cookie = "a=1", ["X-Open"] = "yes" }
    local at = first:gsub("//", "//joe:secret@")
    local detail = refused(at, { headers = headers }, "EAUTH", "another origin")
    assert.equal(401, detail.status)
    local sent = there[1][2].headers
    assert.same({ "Basic eDp5", "a=1", "yes" },
      { here[1][2].headers.authorization, here[1][2].headers.cookie, here[1][2].headers["x-open"] })
    assert.equal("yes", sent["x-open"])
    assert.is_nil(sent.authorization)
    assert.is_nil(sent.cookie)
    assert.is_nil(there[2][2].headers.authorization)
    -- A policy is asked for another origin only where the caller says so, and is told where.
    local locations = {}
    local policy = {
      challenge = function(asked)
        locations[#locations + 1] = asked.location
        return { username = "joe", password = "secret" }
      end,
    }
    refused(first, { policy = policy }, "EAUTH", "another origin")
    assert.same({}, locations)
    local conn = assert(khp.connect(first, { policy = policy, share_credentials = true }))
    assert.same({ target }, locations)
    conn:close()
  end)

  it("by 307 only where the method was GET, which khp.connect's always is [E12 S307]", function()
    local target = serve {}
    local method
    local server = hand.server(function(peer)
      peer:agree()
      method = peer:extended().method
      peer:binary("HTTP/1.1 307 x\r\nLocation: " .. target .. "\r\nContent-Length: 0\r\n\r\n")
    end)
    servers[#servers + 1] = server
    assert(khp.connect(server.url)):close()
    assert.equal("GET", method)
  end)

  it("nowhere by a redirect without Location [E12]", function()
    local server = hand.server(function(peer)
      local request = peer:http()
      if request.path == "/opening" then
        peer:write "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
        return peer:finish()
      end
      peer:write(hand.switch(request))
      peer:extended()
      peer:binary "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"
    end)
    servers[#servers + 1] = server
    refused(server.url .. "opening", nil, "EREDIRECT", "without Location")
    refused(server.url, nil, "EREDIRECT", "without Location")
  end)

  describe("between TLS and none", function()
    local folder

    setup(function()
      folder = os.getenv "KHP_TEST_CERTS"
      if not folder then
        folder = os.tmpname()
        os.remove(folder)
        assert(os.execute("spec/support/certs.sh " .. folder .. " >/dev/null 2>&1"))
      end
    end)

    teardown(function()
      if not os.getenv "KHP_TEST_CERTS" then
        os.execute("rm -r " .. folder)
      end
    end)

    local function certified()
      return { cert = folder .. "/localhost.pem", key = folder .. "/localhost.key" }
    end

    local function with_ca(options)
      options = options or {}
      options.tls = { ca = folder .. "/ca.pem" }
      return options
    end

    it("from ws to wss, but not back unless the policy names the place [E12]", function()
      local open = serve {}
      local safe = serve { tls = certified(), policy = leads({ ["/back"] = open }).policy }
      local first = serve(leads { ["/"] = safe, ["/there"] = safe .. "back" })
      local conn = assert(khp.connect(first, with_ca()))
      assert.equal(safe, conn.url)
      conn:close()
      refused(safe .. "back", with_ca(), "EREDIRECT", "it leaves TLS")
      refused(first .. "there", with_ca { redirects = "always" }, "EREDIRECT", "it leaves TLS")
      local asked
      local function policy(answer)
        return with_ca { policy = {
          redirect = function(location)
            asked = location
            return answer
          end,
        } }
      end
      refused(safe .. "back", policy(true), "EREDIRECT", "it leaves TLS")
      assert.equal(open, asked)
      conn = assert(khp.connect(safe .. "back", policy(open)))
      assert.equal(open, conn.url)
      conn:close()
    end)

    for _, case in ipairs {
      { "opening", "TLS/1.2, HTTP/1.1", true }, { "opening", nil, false }, -- then it says: websocket
      { "extended", "TLS/1.2, HTTP/1.1", true }, { "extended", nil, true }, { "extended", "h2c", false },
    } do
      local step, upgrade, follows = case[1], case[2], case[3]

      -- Ends the server and lets another one listen on its port, with TLS; returns what that is asked.
      local function secure(server, port)
        server:close(0)
        local _, asked = serve { host = "127.0.0.1", port = port, tls = certified(), policy = {
          extended = function(request, session)
            if not session:basic(request, { joe = "secret" }) then
              return challenge 'Basic realm="r"'
            end
            return request.path == "/x" and redirect "/relative" or accept {}
          end,
        } }
        return asked
      end

      it(("by 426 in the %s handshake, Upgrade: %s, to TLS only where the policy says so [S426]"):format(
        step, upgrade or "none"), function()
        local url, _, port, server = serve { policy = {
          [step] = function()
            return reject(426, { headers = { Upgrade = upgrade } })
          end,
        } }
        local detail = refused(url, nil, "EHANDSHAKE", "426")
        assert.equal("upgrade", detail.action)
        local secured
        local conn, message = khp.connect(url:gsub("127.0.0.1", "localhost") .. "x?y", with_ca {
          credentials = { username = "joe", password = "secret" },
          policy = {
            response = function(response, action)
              if response.status == 426 then
                secured = secure(server, port)
                return action
              end
            end,
          },
        })
        if follows then
          assert(conn, message)
          assert.equal("/x?y", secured[1][2].target)
          assert.equal("wss://localhost:" .. port .. "/relative", conn.url) -- from here on TLS stays
          conn:close()
        else
          assert.is_nil(conn)
          assert.truthy(message:find("something else", 1, true))
          assert.same({}, secured)
        end
      end)
    end
  end)

  it("nowhere by what a server of old says in a list of choices, unless the policy chooses [S300 E12]", function()
    local target = serve {}
    local server = hand.server(function(peer)
      peer:agree()
      peer:extended()
      peer:binary("HTTP/1.1 300 Choose\r\nContent-Length: " .. #target .. "\r\n\r\n" .. target)
    end)
    servers[#servers + 1] = server
    local detail = refused(server.url, nil, "EREDIRECT", "without Location")
    assert.equal(target, detail.body)
    assert.equal(300, detail.status)
    assert.equal("Multiple Choices", http.reason(300))
  end)
end)
