-- An HTTP proxy for specs: CONNECT over raw connections, with credentials if it is told to ask for them, and with
-- places mapped to other ports, so that any name and any port can be "reached" on loopback. It keeps what it was sent.

local core = require "khp.core"
local http = require "khp.http"
local limits = require "khp.limits"

local conn = core.conn

local proxy = {}

---@class khp.spec.Proxy
---@field url string
---@field requests table[] each CONNECT, parsed, in order
---@field tunnels integer how many are open
local methods = {}
methods.__index = methods

local function answer(self, client, status, headers, body)
  conn.write(client, assert(http.write_response { status = status, headers = headers or {}, body = body }))
  if status >= 300 then
    conn.close(client)
    self.pending[client] = nil
  end
end

-- Both ends pass on what they get, and end together.
local function join(self, client, server)
  self.tunnels = self.tunnels + 1
  for from, to in pairs { [client] = server, [server] = client } do
    conn.on_event(from, {
      bytes = function(_, _, bytes)
        if from == client then
          self.through[#self.through + 1] = bytes
        end
        conn.write(to, bytes)
      end,
      closed = function()
        conn.close(to)
        self.tunnels = self.tunnels - (from == client and 1 or 0)
      end,
    })
  end
end

local function reach(self, client, authority)
  local host, port = authority:match "^%[?(.-)%]?:(%d+)$"
  local place = self.places[authority] or { host, tonumber(port) }
  conn.connect({ host = place[1], port = place[2] }, {
    open = function(server)
      self.pending[client] = nil
      join(self, client, server)
      answer(self, client, 200)
      if self.chatty then
        conn.write(client, self.chatty)
      end
    end,
    closed = function(_, _, _, reason)
      answer(self, client, 502, nil, reason)
    end,
  }, nil, limits.defaults)
end

local function request(self, client, message)
  self.requests[#self.requests + 1] = message
  local wanted = self.credentials
  if self.respond then
    conn.write(client, self.respond)
    conn.close(client)
  elseif wanted and message.headers["proxy-authorization"] ~= wanted then
    answer(self, client, 407, { { "Proxy-Authenticate", self.challenge } }, "Who are you?")
  else
    reach(self, client, message.target)
  end
end

--- Listens on a free port of 127.0.0.1.
---@param options table? credentials: the value of Proxy-Authorization that is asked for; challenge: of
---  Proxy-Authenticate; places: authority → { host, port }; respond: bytes to answer any CONNECT with; chatty: bytes to
---  send after a 200; silent: never answers
---@return khp.spec.Proxy
function proxy.serve(options)
  local self = setmetatable({ requests = {}, through = {}, pending = {}, places = {}, tunnels = 0,
    challenge = 'Basic realm="proxy"' }, methods)
  for name, value in pairs(options or {}) do
    self[name] = value
  end
  self.listener = assert(core.listener.listen({ host = "127.0.0.1", port = 0 }, {
    open = function(client)
      self.pending[client] = http.parser "request"
    end,
    bytes = function(client, _, bytes)
      if not self.silent and self.pending[client] then
        request(self, client, assert(self.pending[client]:head(bytes)))
      end
    end,
    closed = function(client)
      self.pending[client] = nil
    end,
  }, nil, limits.defaults))
  local _, port = core.listener.address(self.listener)
  self.port = port
  self.url = ("http://127.0.0.1:%d"):format(port)
  return self
end

--- The URL with user and password.
function methods:url_for(user, password)
  return ("http://%s:%s@127.0.0.1:%d"):format(user, password, self.port)
end

function methods:close()
  core.listener.close(self.listener)
end

return proxy
