-- Who the peers are, what they can do, and the world in which a case is tried with each of them: as a client of our
-- server and, where it can, as a server for our client. A peer that cannot be had here is told as pending, with the
-- reason. Knows nothing of what is tried.

local khp = require "khp"
local net = require "spec.support.net"
local puppet = require "spec.peers.puppet"

local peers = {}

---@class peers.Peer
---@field kind "node"|"ws"|"python"|"chromium"
---@field name string
---@field roles string[]
---@field can table<string, true>  `enters`: makes the extended handshake by examples/browser/khp.mjs; `compresses`: and
---  does not only inflate; `pieces`: sends fragments at will; `splits`: they may end inside a character; `pings`;
---  `tears`: ends TCP; `tls`
---@field without table<string, string>? what of that it cannot do here, and why

---@type peers.Peer[]
peers.list = {
  { kind = "node", name = "Node.js", roles = { "client" }, can = { enters = true, tls = true } },
  {
    kind = "ws", name = "ws on Node.js", roles = { "client", "server" },
    can = { compresses = true, pieces = true, splits = true, pings = true, tears = true, tls = true },
  },
  {
    kind = "python", name = "websockets on Python", roles = { "client", "server" },
    can = { compresses = true, pieces = true, pings = true, tears = true, tls = true },
  },
}

-- The slowest to start, and no different on the other backend.
if os.getenv "KHP_BACKEND" ~= "poll" then
  peers.list[#peers.list + 1] = {
    kind = "chromium", name = "Chromium", roles = { "client" },
    can = { compresses = true, enters = true, tls = true },
    without = { tls = puppet.distrust() },
  }
end

-- The world -----------------------------------------------------------------------------------------------------------

---@class peers.World
---@field puppet puppet.Puppet
---@field can table<string, true>
---@field role "client"|"server" the puppet's
---@field certificates string
---@field servers khp.Server[]
local world = {}
world.__index = world

-- A table with the fields of both; those of the second win.
local function merge(first, second)
  local all = {}
  for _, one in ipairs { first, second or {} } do
    for name, value in pairs(one) do
      all[name] = value
    end
  end
  return all
end

--- A server of ours for the puppet, closed when the case is over; gives its URL.
function world:serve(options, tls)
  local files = tls and {
    cert = self.certificates .. "/localhost.pem", key = self.certificates .. "/localhost.key",
  }
  local server, url = net.serve(merge({ tls = files }, options))
  self.servers[#self.servers + 1] = server
  return url, server
end

--- A connection of ours to the puppet's server.
function world:connect(url, options)
  local tls = url:find "^wss:" and { ca = self.certificates .. "/ca.pem" } or nil
  return khp.connect(url, merge({ tls = tls }, options))
end

--- Two ends of one connection: ours and the puppet's.
---@param options { asked: string[]?, offered: string[]?, tls: boolean?, deflate: string?, ours: table? }?  the
---  subprotocols of the client and of the server, `deflate` and `ours` for either side
---@return khp.Connection ours
---@return puppet.End theirs
function world:pair(options)
  options = options or {}
  if self.role == "client" then
    local url, server = self:serve(merge({ protocols = options.offered }, options.ours), options.tls)
    local theirs = self.puppet:connect(url, { protocols = options.asked, deflate = options.deflate }):opened()
    local ours = net.await(function()
      return server:connections()[1]
    end, "the server's end")
    return ours, theirs
  end
  local url, accept = self.puppet:listen { protocols = options.offered, tls = options.tls, deflate = options.deflate }
  local ours = assert(self:connect(url, merge({ protocols = options.asked }, options.ours)))
  return ours, accept()
end

--- Ends what a case has left open.
function world:finish()
  for _, server in ipairs(self.servers) do
    server:close(1)
  end
end

-- The cases -----------------------------------------------------------------------------------------------------------

---@class peers.Case
---@field title string
---@field run fun(world: peers.World)
---@field needs string? what a peer must be able to do
---@field role "client"|"server"|nil only in this role

local ROLES = { client = "with our server:", server = "with our client:" }

-- Every test of one role of a peer. current() is the world; missing: why there is none.
local function try(busted, peer, role, cases, missing, current)
  for _, case in ipairs(cases) do
    if (case.role or role) == role and (not case.needs or peer.can[case.needs]) then
      local why = missing or peer.without and peer.without[case.needs]
      if why then
        busted.pending(("%s (%s)"):format(case.title, why))
      else
        busted.it(case.title, function()
          local w = setmetatable(current(role), world)
          case.run(w)
          w:finish()
        end)
      end
    end
  end
end

--- Tries these cases with every peer in every role that it can play. To be called inside of a describe.
---@param busted table with busted's words: a spec's _ENV
---@param cases peers.Case[]
function peers.try(busted, cases)
  local certificates = os.getenv "KHP_TEST_CERTS"

  busted.setup(function()
    if not certificates then
      certificates = os.tmpname()
      os.remove(certificates)
      assert(os.execute("spec/support/certs.sh " .. certificates .. " >/dev/null 2>&1"))
    end
  end)

  busted.teardown(function()
    if not os.getenv "KHP_TEST_CERTS" then
      os.execute("rm -r " .. certificates)
    end
  end)

  for _, peer in ipairs(peers.list) do
    busted.describe(peer.name, function()
      local found, missing = puppet.find(peer.kind)
      local one

      busted.setup(function()
        one = found and puppet.start(peer.kind, certificates)
      end)

      busted.teardown(function()
        if one then
          one:stop()
        end
      end)

      for _, role in ipairs(peer.roles) do
        busted.describe(ROLES[role], function()
          try(busted, peer, role, cases, missing, function()
            return { puppet = one, can = peer.can, role = role, certificates = certificates, servers = {} }
          end)
        end)
      end
    end)
  end
end

return peers
