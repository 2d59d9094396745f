-- A server's policy: members only. The socket opens for everybody; the extended handshake asks who it is.

local members = { joe = "open sesame", ann = "swordfish" }

-- Of what the client asked for, this server has one subprotocol and one extension.
local function wants(list, name)
  for _, entry in ipairs(list) do
    if entry == name or entry.name == name then
      return name
    end
  end
end

return {
  extended = function(request, session)
    local user = session:basic(request, members)
    if not user then
      return challenge('Basic realm="members"', { body = "Members only.\n" })
    end
    session.data.user = user
    local pace = wants(request.extensions, "x-echo-pace")
    return accept {
      protocol = wants(request.protocols, "echo"),
      extensions = pace and { pace .. "; ms=5" },
    }
  end,
}
