-- A client's policy over real sockets: when its functions are asked, what they may answer, and how they fail.

local decision = require "khp.policy.decision"
local khp = require "khp"
local net = require "spec.support.net"

describe("a client's policy", function()
  local server, url, seen, folder

  before_each(function()
    seen = {}
    folder = os.tmpname()
    os.remove(folder)
    assert(os.execute("mkdir " .. folder))
  end)

  after_each(function()
    if server then
      server:close(1)
      server = nil
    end
    assert(os.execute("rm -r " .. folder))
  end)

  -- decide(request, attempt) for the extended handshake; `seen` has the requests.
  local function serve(decide, opening)
    server, url = net.serve {
      on_message = net.echo,
      policy = {
        opening = opening,
        extended = function(request, session)
          seen[#seen + 1] = request
          return decide and decide(request, session.attempt)
        end,
      },
    }
  end

  local function joe(text)
    local file = assert(io.open(folder .. "/joe.lua", "w"))
    file:write("return { " .. text .. " }")
    file:close()
    return folder .. "/joe.lua"
  end

  local function challenge_until(last)
    return function(_, attempt)
      return attempt < last and decision.challenge 'Token realm="r"' or nil
    end
  end

  local function token(_, attempt)
    return { token = "t" .. attempt }
  end

  describe("request", function()
    it("is asked for each request, replays included, and adds to it [E7 E13]", function()
      serve(challenge_until(3))
      local asked = {}
      local conn = assert(khp.connect(url .. "room?a=b", {
        protocols = { "p" },
        extensions = { "x-a; b=1" },
        policy = {
          challenge = token,
          request = function(request, attempt)
            khp.sleep(0.01)
            asked[#asked + 1] = request
            local headers = { ["X-Attempt"] = attempt, ["X-Same"] = { "1", "2" } }
            return { headers = headers, body = attempt == 2 and "second" or nil }
          end,
        },
      }))
      conn:close()
      assert.equal(3, #seen)
      for i, request in ipairs(seen) do
        assert.equal(tostring(i), request.headers["x-attempt"])
        assert.equal("1, 2", request.headers["x-same"])
        assert.equal(i == 2 and "second" or "", request.body)
        assert.equal(i > 1 and "Token t" .. i - 1 or nil, request.headers.authorization)
        assert.same({ "p" }, request.protocols)
        assert.equal("x-a", request.extensions[1].name)
      end
      local first = asked[1]
      assert.same({ "GET", "/room?a=b", "/room", "a=b", "1.1", url .. "room?a=b" },
        { first.method, first.target, first.path, first.query, first.version, first.url })
      assert.same({ "p" }, first.protocols)
      assert.same({ "x-a", "1" }, { first.extensions[1].name, first.extensions[1].parameters.b })
    end)

    it("may hold a body back until the server wants it, in replays as well [S100 H8]", function()
      serve(challenge_until(2))
      local trace = {}
      local conn = assert(khp.connect(url, {
        policy = {
          challenge = token,
          request = function(_, attempt)
            return { body = "body " .. attempt, expect = true }
          end,
        },
        trace = function(direction, stage, bytes)
          if stage == "extended" then
            trace[#trace + 1] = direction .. " " .. bytes:match "^[^\r\n]+"
          end
        end,
      }))
      conn:close()
      assert.same({ "body 1", "body 2" }, { seen[1].body, seen[2].body })
      assert.same({
        "send GET / HTTP/1.1", "receive HTTP/1.1 100 Continue", "send body 1", "receive HTTP/1.1 401 Unauthorized",
        "send GET / HTTP/1.1", "receive HTTP/1.1 100 Continue", "send body 2",
        "receive HTTP/1.1 101 Switching Protocols",
      }, trace)
    end)

    it("adds nothing where it returns nothing [E7]", function()
      serve(challenge_until(2))
      local conn = assert(khp.connect(url, {
        policy = {
          challenge = token,
          request = function(_, attempt)
            return attempt == 1 and { headers = { ["X-A"] = "1" }, body = "b" } or nil
          end,
        },
      }))
      conn:close()
      assert.same({ "1", "b" }, { seen[1].headers["x-a"], seen[1].body })
      assert.same({ nil, "" }, { seen[2].headers["x-a"], seen[2].body })
    end)
  end)

  describe("response", function()
    it("has the last word on what to do [E10 S101 S202 S403]", function()
      serve(function(request)
        return request.path == "/no" and decision.reject(403) or nil
      end)
      local function with(action)
        return {
          policy = {
            response = function(response, proposed)
              seen[#seen + 1] = response.status .. " " .. proposed
              return action
            end,
          },
          limits = { wait = 0.1 },
        }
      end
      local function fails(path, action, code, status)
        local conn, _, got, detail = khp.connect(url .. path, with(action))
        assert.is_nil(conn)
        assert.equal(code, got)
        assert.equal(status, detail.status)
      end
      assert(khp.connect(url, with(nil))):close()
      assert.equal("101 complete", seen[#seen])
      fails("", "close", "EHANDSHAKE", 101)
      fails("no", nil, "EHANDSHAKE", 403)
      assert.equal("403 close", seen[#seen])
      fails("no", "authenticate", "EAUTH", 403)
      fails("no", "redirect", "EREDIRECT", 403)
      fails("no", "wait", "ECLOSED", 403) -- the server closes after what it means to be final
      local conn = assert(khp.connect(url .. "no", with "complete"))
      conn:close()
    end)

    it("may follow a Location that no redirect came with [E12]", function()
      for _, stage in ipairs { "opening", "extended" } do
        local function decide(request)
          if request.path == "/" then
            return decision.reject(404, { headers = { Location = "/there" } })
          end
        end
        serve(stage == "extended" and decide or nil, stage == "opening" and decide or nil)
        local conn = assert(khp.connect(url, {
          policy = {
            response = function(response, action)
              return response.headers.location and "redirect" or action
            end,
          },
        }))
        assert.equal(url .. "there", conn.url)
        conn:close()
        server:close(1)
        server = nil
      end
    end)
  end)

  describe("redirect", function()
    it("says yes, no, or where to instead [E12]", function()
      serve(function(request)
        if request.path == "/" then
          return decision.redirect "/a"
        end
      end)
      local asked = {}
      local function with(answer)
        return {
          policy = {
            redirect = function(location, from, count)
              khp.sleep(0.01)
              asked[#asked + 1] = location .. " " .. from .. " " .. count
              return answer
            end,
          },
        }
      end
      local conn = assert(khp.connect(url, with(true)))
      assert.equal(url .. "a", conn.url)
      conn:close()
      conn = assert(khp.connect(url, with "/b"))
      assert.equal(url .. "b", conn.url)
      conn:close()
      for _, no in ipairs { false, "nil" } do
        local none, message, code, detail = khp.connect(url, with(no ~= "nil" and no or nil))
        assert.is_nil(none)
        assert.equal("EREDIRECT", code)
        assert.matches("the rule's function refused", message)
        assert.equal("/a", detail.location)
      end
      assert.equal(url .. "a " .. url .. " 1", asked[1])
    end)
  end)

  describe("that fails", function()
    -- The four returns say which function of which file it was; the server is told 1011, and nothing is left open.
    local function fails(text, pattern, options, opening)
      options = options or {}
      options.policy = joe(text)
      local conn, message, code, detail = khp.connect(url, options)
      assert.is_nil(conn)
      assert.equal("EPOLICY", code)
      assert.matches("^joe%.lua: " .. pattern, message)
      assert.is_nil(message:find "\n")
      assert.is_true(detail.permanent)
      assert.equal(url, detail.url)
      if not opening then
        net.await(function()
          return #server:connections() == 0 and server:stats().connections == 0
        end)
      end
      return detail
    end

    it("is named, with its file, and says where [E10]", function()
      serve(challenge_until(3))
      for name, text in pairs {
        request = "request = function() error 'oops' end",
        challenge = "challenge = function() error 'oops' end",
        response = "response = function() error 'oops' end",
      } do
        local detail = fails(text, name .. ": .*joe%.lua:1: oops$")
        assert.matches("stack traceback", detail.traceback)
        assert.matches("joe.lua:1: in function", detail.traceback)
      end
      fails("request = function() error {} end", "request: %(the error is a table value%)$")
      fails("request = function(_, n) if n == 2 then error 'late' end end, \z
        challenge = function() return { token = 't' } end", "request: .*joe%.lua:1: late$")
      server:close(1)
      serve(function()
        return decision.redirect "/there"
      end)
      fails("redirect = function() error 'oops' end", "redirect: .*joe%.lua:1: oops$")
      local none, said, code = khp.connect(url, {
        redirects = function()
          error "oops"
        end,
      })
      assert.is_nil(none)
      assert.equal("EPOLICY", code)
      assert.matches("^redirects: .*oops$", said)
      server:close(1)
      serve(nil, function()
        return decision.reject(403)
      end)
      fails("response = function() error 'oops' end", "response: .*joe%.lua:1: oops$")
      local _, message = khp.connect(url, {
        policy = {
          response = function()
            error "oops"
          end,
        },
      })
      assert.matches("^policy: response: ", message)
    end)

    it("is one that answers what it must not [E7 E10]", function()
      serve(challenge_until(2))
      fails("request = function() return 1 end", "request: a table or nil expected, not number$")
      fails("request = function() return { ['X-A'] = 'b' } end", "request: unknown option 'X%-A' %(known: ")
      fails("request = function() return { header = {} } end",
        "request: unknown option 'header', did you mean 'headers'")
      fails("request = function() return { body = 1 } end", "request: option 'body' must be a string, not 1$")
      fails("request = function() return { expect = true } end", "request: expect needs a body$")
      fails("request = function() return { headers = { Upgrade = 'x' } } end",
        "request: the header 'Upgrade' is the handshake's own$")
      fails("request = function() return { headers = { ['X-A'] = 'a\\r\\nB: c' } } end",
        "request: a header value contains a control character: X%-A$")
      fails("request = function(_, n) return { headers = { ['a b'] = n == 2 and 'x' or nil } } end, \z
        challenge = function() return { token = 't' } end", "request: .*name")
      fails("challenge = function() return 'Basic abc' end", "challenge: a table or nil expected, not string$")
      fails("challenge = function() return { user = 'joe' } end", "challenge: unknown option 'user'")
      fails("response = function() return 'no' end", "response: an action or nil expected, not 'no'$")
      fails("response = function() return true end", "response: an action or nil expected, not boolean$")
      server:close(1)
      serve(function()
        return decision.redirect "/there"
      end)
      fails("redirect = function() return 1 end", "redirect: true, false or a URL expected, not number$")
      server:close(1)
      serve(nil, function()
        return decision.reject(403)
      end)
      for _, action in ipairs { "complete", "wait", "continue" } do
        fails("response = function() return '" .. action .. "' end",
          "response: '" .. action .. "' cannot be done about a response that refuses the opening$")
      end
    end)

    it("is not asked again, and no other function is either", function()
      serve(function()
        return decision.challenge { 'Bearer realm="r"', 'Basic realm="r"' }
      end)
      local asked = 0
      local conn, message = khp.connect(url, {
        policy = {
          challenge = function()
            asked = asked + 1
            error "oops"
          end,
        },
      })
      assert.is_nil(conn)
      assert.matches("oops", message)
      assert.equal(1, asked)
    end)
  end)
end)
