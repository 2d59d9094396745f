-- Credentials over real sockets: every scheme, in the opening and in the extended handshake, and where they must not
-- go.

local crypto = require "khp.crypto"
local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local khp = require "khp"
local net = require "spec.support.net"

local MEMBERS = { joe = "open sesame", ann = "swordfish" }
local JOE = { username = "joe", password = "open sesame" }

describe("credentials", function()
  local servers, url, seen, failures

  before_each(function()
    servers, seen, failures = {}, {}, {}
  end)

  after_each(function()
    for _, server in ipairs(servers) do
      server:close(1)
    end
  end)

  local function note(stage, request)
    seen[#seen + 1] = { stage = stage, path = request.path, headers = request.headers }
  end

  -- A server that asks decide(request, session) at this stage; what it saw stands in `seen`.
  local function serve(stage, decide)
    local policy = {}
    for _, name in ipairs { "opening", "extended" } do
      policy[name] = function(request, session)
        note(name, request)
        if name == stage then
          return decide(request, session)
        end
      end
    end
    local server, at = net.serve { policy = policy, on_message = net.echo }
    servers[#servers + 1], url = server, at
    return at, server
  end

  -- A policy's function that lets in whom check(request, session) names, and challenges all others.
  local function members(check, challenge)
    return function(request, session)
      local user, asked = check(request, session)
      if not user then
        return decision.challenge(challenge or asked)
      end
      session.data.user = user
      return nil
    end
  end

  local function basic(request, session)
    return session:basic(request, MEMBERS)
  end

  local function digest(options)
    options = options or {}
    options.realm = "members"
    return function(request, session)
      return session:digest(request, MEMBERS, options)
    end
  end

  local function bearer(request, session)
    return session:bearer(request, function(token)
      return token == "t0ken" and "joe"
    end)
  end

  local function enters(options, at)
    local conn, message = khp.connect(at or url, options)
    assert(conn, message)
    assert.equal("joe", servers[#servers]:connections()[1].data.user)
    conn:send "in"
    assert.equal("in", (conn:receive(5)))
    conn:close()
    return conn
  end

  local function refused(options, pattern, status, at)
    local conn, message, code, detail = khp.connect(at or url, options)
    assert.is_nil(conn)
    assert.matches(pattern, message)
    assert.equal("EAUTH", code)
    assert.equal(status or 401, detail.status)
    failures[#failures + 1] = message
    return detail
  end

  local function authorizations()
    local list = {}
    for i, request in ipairs(seen) do
      list[i] = request.stage .. " " .. (request.headers.authorization or "-"):match "^%S+"
    end
    return table.concat(list, ", ")
  end

  -- Each: what the server checks, how it asks, credentials, and the scheme that answers.
  local schemes = {
    { "Basic", basic, 'Basic realm="members"', JOE, "Basic" },
    { "Application Basic", basic, 'Application Basic realm="members"', JOE, "Basic" },
    { "Digest with SHA-256", digest { algorithms = { "SHA-256" } }, nil, JOE, "Digest" },
    { "Digest with MD5", digest { algorithms = { "MD5" } }, nil, JOE, "Digest" },
    { "Digest with sessions", digest { algorithms = { "SHA-512-256-sess" } }, nil, JOE, "Digest" },
    { "Application Digest", digest { prefix = "Application" }, nil, JOE, "Digest" },
    { "Bearer", bearer, 'Bearer realm="members"', { token = "t0ken" }, "Bearer" },
    { "Application Token", bearer, "Application Token", { token = "t0ken" }, "Token" },
  }
  local wrong = { username = "joe", password = "closed", token = "wrong" }

  for _, case in ipairs(schemes) do
    it("let in with " .. case[1] .. ", and keep out without the right ones [E13 H9]", function()
      for _, stage in ipairs { "extended", "opening" } do
        seen = {}
        serve(stage, members(case[2], case[3]))
        enters { credentials = case[4] }
        local once = "opening -, extended -, extended " .. case[5]
        local anew = ("opening -, opening %s, extended -"):format(case[5])
        assert.equal(stage == "opening" and anew or once, authorizations())
        local scheme = case[5] == "Digest" and "Digest, realm \"members\"" or case[5]
        local detail = refused({ credentials = wrong }, "^the server asks for credentials %(" .. scheme .. ".*refused$")
        assert.equal(2, detail.attempts)
        refused(nil, "none were given$")
        refused({ credentials = case[5] == "Basic" and { token = "x" } or {} }, "needs a")
      end
    end)
  end

  it("answer the strongest challenge first, and a weaker one only after it [E13 H9]", function()
    serve("extended", members(function(request, session)
      local user, asked = session:digest(request, MEMBERS, { realm = "members" })
      table.insert(asked or {}, 1, 'Basic realm="members"')
      return user, asked
    end))
    enters { credentials = JOE }
    assert.matches("^Digest .*algorithm=SHA%-256", seen[3].headers.authorization)
    seen = {}
    refused({ credentials = wrong }, "refused")
    assert.equal("opening -, extended -, extended Digest, extended Basic", authorizations())
  end)

  it("are good once more when only the nonce was too old [E13 H9]", function()
    local clock = 1000
    for _, stage in ipairs { "extended", "opening" } do
      seen = {}
      local rounds = 0
      local _, server = serve(stage, members(function(request, session)
        rounds = rounds + 1
        local user, asked = session:digest(request, MEMBERS, { realm = "members" })
        clock = clock + (rounds == 1 and 301 or 0) -- so that the first nonce is used too late
        return user, asked
      end))
      server.world.now = function()
        return clock
      end
      enters { credentials = JOE }
      assert.equal(3, rounds)
      seen = {}
      rounds = 0
      refused({ credentials = wrong }, "refused")
      assert.equal(2, rounds)
    end
  end)

  it("stand in the URL, with escapes, and are shown nowhere [E13]", function()
    for _, stage in ipairs { "extended", "opening" } do
      seen = {}
      serve(stage, members(basic, 'Basic realm="members"'))
      local conn = enters(nil, url:gsub("//", "//joe:open%%20sesame@") .. "room")
      assert.equal(url .. "room", conn.url)
      local answered = seen[stage == "opening" and 2 or 3].headers
      assert.equal("Basic " .. crypto.base64 "joe:open sesame", answered.authorization)
      assert.equal(url:match "//(.-)/", seen[1].headers.host)
      assert.is_nil(seen[1].headers.authorization)
    end
    local detail = refused(nil, "refused", 401, url:gsub("//", "//joe:wrong@"))
    assert.same({ url, url }, detail.urls)
  end)

  it("come from a function that may take its time [E13 H9]", function()
    for _, stage in ipairs { "extended", "opening" } do
      serve(stage, members(bearer, { 'Bearer realm="members"', 'Basic realm="members"' }))
      local asked, done = {}, 0
      local function connect()
        enters({
          credentials = function(realm, location, scheme)
            asked[#asked + 1] = realm .. " " .. location .. " " .. scheme
            khp.sleep(0.05)
            return scheme == "Bearer" and { token = "t0ken" } or nil
          end,
        }, url .. "a?b")
        done = done + 1
      end
      connect() -- in the main chunk
      khp.spawn(connect)
      khp.spawn(function()
        khp.sleep(0.02)
        done = done + 1 -- everything else goes on
      end)
      net.await(function()
        return done == 3
      end)
      assert.same({ "members " .. url .. "a?b Bearer", "members " .. url .. "a?b Bearer" }, asked)
    end
  end)

  it("are asked for a limited number of times, and no more [E13]", function()
    for _, stage in ipairs { "extended", "opening" } do
      serve(stage, members(basic, 'Basic realm="members"'))
      local asked = 0
      local detail = refused({
        limits = { attempts = 3 },
        credentials = function()
          asked = asked + 1
          return { username = "joe", password = "guess " .. asked }
        end,
      }, "^not authorized after 3 attempts$")
      assert.equal(2, asked)
      assert.equal(3, detail.attempts)
      asked = 0
      refused({
        credentials = function()
          asked = asked + 1
          return nil
        end,
      }, "no credentials$")
      assert.equal(1, asked)
    end
  end)

  it("replace an Authorization that the user sent unasked [E13]", function()
    serve("opening", members(basic, 'Basic realm="members"'))
    enters { headers = { Authorization = "Bearer mine" }, credentials = JOE }
    assert.equal("opening Bearer, opening Basic, extended -", authorizations())
    local fields = 0
    for name in pairs(seen[2].headers) do
      fields = fields + (name:lower() == "authorization" and 1 or 0)
    end
    assert.equal(1, fields)
  end)

  it("cannot answer a 401 without a challenge [E13]", function()
    local asked = 0
    local bare = hand.server(function(peer)
      peer:http()
      asked = asked + 1
      peer:write "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
      peer:finish()
    end)
    local conn, message, code = khp.connect(bare.url, { credentials = JOE })
    assert.is_nil(conn)
    assert.equal("the server answered '401 Unauthorized' without a challenge that can be read", message)
    assert.same({ "EAUTH", 1 }, { code, asked })
    bare:close()
  end)

  describe("after a redirect", function()
    local here, there

    -- `here` leads to `there` from one stage, once its user is known; `there` asks with Basic, too.
    local function lead(stage)
      there = serve(stage, members(basic, 'Basic realm="members"'))
      here = serve(stage, function(request, session)
        if not session:basic(request, MEMBERS) then
          return decision.challenge 'Basic realm="members"'
        end
        return decision.redirect(there .. "room")
      end)
    end

    local function sent_there()
      local list = {}
      for _, request in ipairs(seen) do
        if request.path == "/room" then
          list[#list + 1] = request.stage .. " " .. (request.headers.authorization or "-")
          assert.is_nil(request.headers.cookie)
          assert.is_nil(request.headers["proxy-authorization"])
          assert.equal("kept", request.stage == "opening" and request.headers["x-other"] or "kept")
        end
      end
      return table.concat(list, ", ")
    end

    local extra = { Authorization = "Basic " .. crypto.base64 "joe:open sesame", Cookie = "a=b", ["X-Other"] = "kept",
      ["Proxy-Authorization"] = "Basic x" }

    it("stay behind where it leads to another origin [E12 E13]", function()
      for _, stage in ipairs { "opening", "extended" } do
        local expected = stage == "opening" and "opening -" or "opening -, extended -"
        lead(stage)
        seen = {}
        local detail = refused({ credentials = JOE, headers = extra },
          "those that there are were given for another origin$", 401, here)
        assert.same({ there .. "room" }, { detail.url })
        assert.equal(expected, sent_there())
        seen = {}
        refused({ headers = extra }, "those that there are were given for another origin$", 401,
          here:gsub("//", "//joe:open%%20sesame@"))
        assert.equal(expected, sent_there())
      end
    end)

    it("are not asked of a function, unless they may be shared [E12 E13]", function()
      lead "extended"
      local asked = 0
      refused({
        credentials = function()
          asked = asked + 1
          return JOE
        end,
      }, "those that there are were given for another origin$", 401, here)
      assert.equal(1, asked)
    end)

    it("are asked of a function, which is told where, if they may be shared [E12 E13]", function()
      for _, stage in ipairs { "opening", "extended" } do
        lead(stage)
        local asked = {}
        local function give(location)
          asked[#asked + 1] = location
          return location:find(here, 1, true) and JOE or nil
        end
        refused({
          share_credentials = true,
          credentials = function(_, location)
            return give(location)
          end,
        }, "no credentials$", 401, here)
        refused({
          share_credentials = true,
          policy = {
            challenge = function(challenge)
              return give(challenge.location)
            end,
          },
        }, "no credentials$", 401, here)
        assert.same({ here, there .. "room", here, there .. "room" }, asked)
      end
    end)

    it("go on where it leads to the same origin, though they were used already [E12 E13]", function()
      for _, stage in ipairs { "opening", "extended" } do
        serve(stage, function(request, session)
          if not session:basic(request, MEMBERS) then
            return decision.challenge 'Basic realm="members"'
          elseif request.path == "/" then
            return decision.redirect "/room"
          end
          session.data.user = "joe"
        end)
        enters { credentials = JOE }
      end
    end)
  end)

  it("serve the opening and the extended handshake, one after the other [E13]", function()
    local check = members(basic, 'Basic realm="members"')
    local server
    server, url = net.serve { policy = { opening = check, extended = check }, on_message = net.echo }
    servers[1] = server
    enters { credentials = JOE }
    refused({ credentials = wrong }, "refused")
  end)

  it("are in no message, no log and no detail of ours [E13]", function()
    local lines, level, sink = {}, khp.log.level, khp.log.sink
    khp.log.level, khp.log.sink = "debug", function(at, text)
      lines[#lines + 1] = at .. " " .. text
    end
    local secrets = { "open sesame", "open%20sesame", "t0psecret", crypto.base64 "joe:open sesame",
      crypto.base64 "ann:open sesame" }
    local ok, problem = pcall(function()
      for _, stage in ipairs { "opening", "extended" } do
        serve(stage, members(basic, 'Basic realm="members"'))
        enters { credentials = JOE }
        local ann = { username = "ann", password = "open sesame", token = "t0psecret" }
        for _, options in ipairs { { credentials = ann }, { credentials = { token = "t0psecret" } } } do
          refused(options, "asks for credentials")
        end
        refused(nil, "refused", 401, url:gsub("//", "//ann:open%%20sesame@"))
      end
      for _, bad in ipairs { "ws://ann:open%20sesame@127.0.0.1:99999/", "ftp://ann:t0psecret@x/", "ann:t0psecret@x",
        "ws://ann:t0/psecret@127.0.0.1/", "ws://ann:t0psecret@x@127.0.0.1/" } do
        local threw, message = pcall(khp.connect, bad)
        assert.is_false(threw)
        failures[#failures + 1] = message
      end
      local none, message, _, detail = khp.connect("ws://ann:t0psecret@127.0.0.1:1/")
      assert.is_nil(none)
      failures[#failures + 1] = message .. detail.url .. table.concat(detail.urls)
    end)
    khp.log.level, khp.log.sink = level, sink
    assert(ok, problem)
    assert.is_true(#lines > 4)
    local text = table.concat(lines, "\n") .. "\n" .. table.concat(failures, "\n")
    for _, secret in ipairs(secrets) do
      assert.is_nil(text:find(secret, 1, true), secret)
    end
    assert.is_nil(text:find("psecret", 1, true))
  end)

  it("of a wrong form are the caller's mistake, or the function's", function()
    local ok, message = pcall(function()
      khp.connect("ws://127.0.0.1:1/", { credentials = { user = "joe", password = "t0psecret" } })
    end)
    assert.is_false(ok)
    assert.matches("^spec/e2e/auth_spec.lua:%d+: khp.connect: credentials: unknown option 'user'", message)
    assert.is_nil(message:find "t0psecret")
    for _, stage in ipairs { "opening", "extended" } do
      serve(stage, members(basic, 'Basic realm="members"'))
      for pattern, f in pairs {
        ["^credentials: spec/e2e/auth_spec.lua:%d+: no luck$"] = function()
          error "no luck"
        end,
        ["^credentials: a table or nil expected, not number$"] = function()
          return 42
        end,
        ["^credentials: unknown option 'user'"] = function()
          return { user = "joe" }
        end,
        ["^credentials: option 'password' must be a string"] = function()
          return { username = "joe", password = 1 }
        end,
      } do
        local conn, said, code, detail = khp.connect(url, { credentials = f })
        assert.is_nil(conn)
        assert.matches(pattern, said)
        assert.equal("EPOLICY", code)
        assert.equal(said:find "luck" and "string" or "nil", type(detail.traceback))
      end
    end
  end)
end)
