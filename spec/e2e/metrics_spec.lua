-- What a server tells of itself: its numbers, the same as OpenMetrics, and a line for each handshake.

local core = require "khp.core"
local decision = require "khp.policy.decision"
local hand = require "spec.support.hand"
local khp = require "khp"
local metrics = require "khp.metrics"
local net = require "spec.support.net"

local accept, challenge, redirect, reject = decision.accept, decision.challenge, decision.redirect, decision.reject

describe("a server", function()
  local server, url, port, level, sink, lines, records

  before_each(function()
    level, sink, lines, records = khp.log.level, khp.log.sink, {}, {}
    khp.log.level = "info"
    khp.log.sink = function(at, text, fields)
      lines[#lines + 1] = at .. ": " .. text
      records[#records + 1] = fields
    end
  end)

  after_each(function()
    hand.drop()
    server:close()
    khp.log.level, khp.log.sink = level, sink
  end)

  local function serve(options)
    options.on_message = net.echo
    server, url, port = net.serve(options)
  end

  local function gone()
    net.await(function()
      return server:stats().connections == 0
    end, "the end of all connections")
  end

  -- Without KHP.
  local function plainly(path)
    return khp.connect(url .. (path or ""), { khp = false })
  end

  local function get(path)
    local peer = net.peer(port)
    peer:send("GET " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    return peer:await_end()
  end

  describe("counts", function()
    it("how handshakes end", function()
      serve {
        limits = { opening = 0.2 },
        policy = {
          opening = function(request)
            if request.path == "/no" then
              return reject(403)
            elseif request.path == "/there" then
              return redirect "/here"
            elseif request.path == "/page" then
              return reject(200, "page")
            end
          end,
          extended = function(request)
            if request.path == "/never" then
              return reject(403)
            end
            return request.path == "/who" and challenge "Basic realm=x" or nil
          end,
        },
      }
      assert(khp.connect(url)):close()
      assert(plainly()):close()
      assert.is_nil((khp.connect(url .. "no")))
      assert.is_nil((khp.connect(url .. "never")))
      assert.is_nil((khp.connect(url .. "who", { credentials = { username = "a", password = "b" } })))
      assert.matches("^HTTP/1.1 200 OK", get "/page")
      assert.matches("^HTTP/1.1 426 ", get "/")
      local garbage = net.peer(port)
      garbage:send "garbage\r\n\r\n"
      garbage:await_end()
      assert.matches("^HTTP/1.1 408 ", net.peer(port):await_end())
      gone()
      local stats = server:stats()
      assert.same({ 9, 2, 1, 3, 1, 1, 2 }, { -- who leaves after a 401 was refused
        stats.accepted, stats.opened, stats.opened_khp, stats.refused, stats.failed, stats.timed_out, stats.answered,
      })
    end)

    it("connections, messages, bytes, and what waits", function()
      serve {}
      local peer = net.peer(port)
      local head = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
      local answer = peer:upgrade("/")
      for _ = 1, 3 do
        peer:send(net.frame(0x81, "hello"))
      end
      peer:await(("\129\5hello"):rep(3))
      local stats = server:stats()
      assert.same({ 1, 1, 3, 3, 0 }, {
        stats.connections, stats.opened, stats.messages_in, stats.messages_out, stats.queued_bytes,
      })
      assert.same({ #head + 3 * 11, #answer + 3 * 7 }, { stats.bytes_in, stats.bytes_out })
      core.conn.pause(peer.conn)
      local one = server:connections()[1]
      repeat
        one:send(("x"):rep(1000000), "binary")
        khp.step(0)
      until one:queued() > 0
      assert.equal(one:queued(), server:stats().queued_bytes)
      core.conn.abort(peer.conn)
      gone()
      server:close()
      assert.equal(3, server:stats().messages_in) -- what was counted stays
    end)

    it("the application's messages, and not those of the extended handshake", function()
      serve {}
      local conn = assert(khp.connect(url))
      assert.is_true(conn.khp)
      conn:send "hello"
      assert.equal("hello", (conn:receive(5)))
      conn:close()
      gone()
      assert.same({ 1, 1 }, { server:stats().messages_in, server:stats().messages_out })
    end)

    it("how long policies take, waiting included", function()
      serve {
        policy = {
          opening = function(request)
            if request.path == "/slow" then
              khp.sleep(0.06)
            elseif request.path == "/never" then
              khp.sleep(100)
            end
            return accept {}
          end,
        },
        limits = { opening = 0.2 },
      }
      assert(plainly()):close()
      assert(plainly "slow"):close()
      assert.is_nil((plainly "never"))
      gone()
      local policy = server:stats().policy
      assert.equal(3, policy.count)
      assert.is_true(policy.seconds > 0.25 and policy.seconds < 5)
      local at_most = {}
      for _, bucket in ipairs(policy.buckets) do
        at_most[bucket[1]] = bucket[2]
      end
      assert.is_true(at_most[0.05] <= 1 and at_most[0.1] <= 2)
      assert.equal(3, at_most[10])
    end)
  end)

  describe("is shown as OpenMetrics", function()
    -- A small reader of the format, strict where it matters.
    local function parse(text)
      assert.equal("# EOF\n", text:sub(-6))
      local families, family, samples = {}, nil, {}
      for line in text:gmatch "(.-)\n" do
        local what, name, rest = line:match "^# (%u+) ([%w_:]+) (.+)$"
        if what == "TYPE" then
          assert.is_nil(families[name], name .. " twice")
          family = { name = name, type = rest }
          families[name] = family
        elseif what == "UNIT" then
          assert.equal("_" .. rest, name:sub(-#rest - 1))
        elseif what then
          assert.equal("HELP", what)
          assert.equal(family.name, name)
        elseif line ~= "# EOF" then
          local sample, labels, value = line:match "^([%a_][%w_]*)(%b{}) (%S+)$"
          if not sample then
            sample, value = line:match "^([%a_][%w_]*) (%S+)$"
            labels = ""
          end
          assert(sample, line)
          local suffix = sample:match("^" .. family.name .. "(.*)$")
          local allowed = { gauge = { [""] = true }, counter = { _total = true },
            histogram = { _bucket = true, _count = true, _sum = true } }
          assert.is_true(allowed[family.type][suffix], line)
          assert.is_nil(samples[sample .. labels])
          samples[sample .. labels] = assert(tonumber(value), line)
        end
      end
      return samples, families
    end

    it("with everything that is counted", function()
      serve { policy = { opening = function() return accept {} end } }
      local conn = assert(plainly())
      conn:send "hello"
      conn:receive(5)
      local text, kind = server:metrics()
      assert.equal("application/openmetrics-text; version=1.0.0; charset=utf-8", kind)
      local samples, families = parse(text)
      assert.equal(1, samples.khp_connections)
      assert.equal(1, samples.khp_accepted_connections_total)
      assert.equal(1, samples['khp_handshakes_total{outcome="opened"}'])
      for _, outcome in ipairs { "opened_khp", "refused", "failed", "timed_out" } do
        assert.equal(0, samples[('khp_handshakes_total{outcome="%s"}'):format(outcome)])
      end
      assert.equal(1, samples['khp_messages_total{direction="in"}'])
      assert.equal(server:stats().bytes_out, samples['khp_traffic_bytes_total{direction="out"}'])
      assert.equal(0, samples.khp_queue_bytes)
      assert.equal("histogram", families.khp_policy_seconds.type)
      assert.equal(1, samples['khp_policy_seconds_bucket{le="+Inf"}'])
      assert.equal(1, samples['khp_policy_seconds_bucket{le="10.0"}'])
      assert.equal(1, samples.khp_policy_seconds_count)
      conn:close()
    end)

    it("by a route of the server itself", function()
      serve {
        routes = {
          {
            path = "/metrics",
            policy = {
              opening = function()
                local text, kind = server:metrics()
                return reject(200, { body = text, headers = { ["Content-Type"] = kind } })
              end,
            },
          },
          { },
        },
      }
      local head, body = get("/metrics"):match "^(.-\r\n\r\n)(.*)$"
      assert.truthy(head:find("Content-Type: " .. metrics.TYPE, 1, true))
      assert.equal(1, parse(body).khp_connections)
    end)
  end)

  describe("writes a line for each handshake", function()
    local function line(pattern)
      local text = net.await(function()
        return lines[1]
      end, "a line")
      assert.matches("^info: 127%.0%.0%.1:%d+: " .. pattern .. "in %d+%.%d%d%d ms$", text)
      return records[1]
    end

    it("that was asked for and opened", function()
      serve { protocols = { "chat" }, policy = { extended = function() end } }
      local conn = assert(khp.connect(url .. "room?token=7", { protocols = { "talk", "chat" } }))
      local record = line("GET /room%?… %(KHP, protocols talk, chat%): opened with KHP, protocol chat, "
        .. "by policy: extended, ")
      assert.is_true(record.seconds > 0 and record.port > 0)
      record.seconds, record.port = nil, nil
      assert.same({
        event = "handshake", peer = "127.0.0.1", method = "GET", target = "/room?…", asked_khp = true,
        asked_protocols = { "talk", "chat" }, outcome = "opened_khp", protocol = "chat", policy = "policy",
        ["function"] = "extended",
      }, record)
      conn:close()
    end)

    it("with its query, for who wants to know everything", function()
      khp.log.level = "debug"
      serve {}
      assert(plainly "room?token=7"):close()
      line "GET /room%?token=7 %(WebSocket%): opened, "
    end)

    it("that was refused, with the answer and the policy", function()
      serve { policy = "examples/policies/members.lua" }
      assert.is_nil((khp.connect(url, { credentials = { username = "joe", password = "wrong" } })))
      gone()
      local record = records[1]
      assert.matches("2 attempts, by examples/policies/members.lua: extended, ", lines[1])
      assert.same({ 2, "examples/policies/members.lua", "extended" },
        { record.attempts, record.policy, record["function"] })
    end)

    it("with where a redirect leads, but for its secrets", function()
      serve {
        policy = {
          opening = function()
            return redirect("ws://joe:secret@example.org/there?token=7")
          end,
        },
      }
      assert.is_nil((khp.connect(url, { khp = false, redirects = "never" })))
      local record = line("GET / %(WebSocket%): refused with 302 Found to ws://…@example%.org/there%?…, "
        .. "by policy: opening, ")
      assert.equal("ws://…@example.org/there?…", record.location)
    end)

    it("with the user that the policy has found out", function()
      serve {
        policy = {
          extended = function(request, session)
            local user, challenges
            if request.path == "/digest" then
              user, challenges = session:digest(request, { joe = "welcome" }, { realm = "members" })
            else
              user = session:basic(request, { joe = "welcome", ["a, by x"] = "y" })
            end
            return user and accept {} or challenge(challenges or 'Basic realm="x"')
          end,
        },
      }
      local function told(path, name, password)
        lines, records = {}, {}
        local conn = khp.connect(url .. path, { credentials = { username = name, password = password } })
        if conn then
          conn:close()
        end
        gone()
        return lines[1], records[1].user
      end
      local function as(name, text, user)
        assert.truthy(text:find("opened with KHP, as " .. name .. ", 2 attempts, by policy: extended", 1, true), text)
        return user
      end
      assert.equal("joe", as("joe", told("", "joe", "welcome")))
      assert.equal("joe", as("joe", told("digest", "joe", "welcome")))
      assert.equal("a, by x", as('"a, by x"', told("", "a, by x", "y")))
      local text, user = told("", "joe", "wrong")
      assert.is_nil(user or text:find(", as ", 1, true))
    end)

    it("that a route refused, or an opening", function()
      serve {
        routes = {
          { path = "/here", policy = { opening = function() return redirect("/there", { status = 307 }) end } },
        },
      }
      assert.is_nil((plainly "elsewhere"))
      assert.matches("GET /elsewhere %(WebSocket%): refused with 404 Not Found, in ", lines[1])
      assert.is_nil((khp.connect(url .. "here", { khp = false, redirects = "never" })))
      assert.matches("GET /here %(WebSocket%): refused with 307 Temporary Redirect to /there, by policy: opening, in ",
        lines[2])
      get "/here"
      assert.matches("GET /here: answered with 307 Temporary Redirect to /there, by policy: opening, in ", lines[3])
    end)

    it("that failed, with the peer's address though it is gone", function()
      serve {}
      local client = hand.khp_client(port)
      client:abort()
      gone()
      assert.matches("^info: 127%.0%.0%.1:%d+: GET / %(KHP%): extended handshake failed: .+ %(ECLOSED%), in ", lines[1])
      assert.same({ "failed", "ECLOSED" }, { records[1].outcome, records[1].code })
    end)

    it("that was made while the server closed", function()
      serve {}
      local client = hand.khp_client(port)
      server:close(1)
      client:await_end()
      assert.matches("extended handshake failed: the server closes %(ECLOSED%)", lines[1])
    end)

    it("that TLS did not come to", function()
      local folder = os.tmpname()
      os.remove(folder)
      assert(os.execute("spec/support/certs.sh " .. folder .. " >/dev/null 2>&1"))
      serve { tls = { cert = folder .. "/localhost.pem", key = folder .. "/localhost.key" } }
      local peer = net.peer(port)
      peer:send "GET / HTTP/1.1\r\n\r\n"
      peer:await_end()
      net.await(function()
        return lines[1]
      end, "a line")
      assert.matches("^info: 127%.0%.0%.1:%d+: failed before it was open: .+ %(ETLS%), in %d+ ms$", lines[1])
      assert.same({ "handshake", "failed", "ETLS" }, { records[1].event, records[1].outcome, records[1].code })
      assert.is_true(records[1].seconds >= 0 and records[1].seconds < 30)
      assert.equal(1, server:stats().failed)
      os.execute("rm -r " .. folder)
    end)

    it("from which nothing breaks out that a peer has said", function()
      serve {}
      local peer = net.peer(port)
      peer:upgrade "/%0a\194\155?x"
      net.await(function()
        return lines[1]
      end, "a line")
      assert.is_nil(lines[1]:find "[%c]")
      peer:close()
    end)
  end)

  it("knows whom a connection led to when it is closed", function()
    local ended
    server, url, port = net.serve {
      on_message = net.echo,
      on_close = function(conn)
        ended = conn
      end,
    }
    local conn = assert(plainly())
    local mine = core.conn.local_address(conn)
    core.conn.abort(conn)
    net.await(function()
      return ended
    end, "the end")
    gone()
    assert.same(mine, ended.peer)
    assert.matches("^info: 127%.0%.0%.1:" .. mine.port .. ": ended with 1006 by ", lines[#lines])
  end)
end)
