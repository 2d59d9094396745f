-- A server's policy: members only. The WebSocket opens for everybody; the extended handshake asks for credentials.

local members = { joe = "open sesame", ann = "swordfish" }

-- Of what the client asks for, this server has one subprotocol and one extension.
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

  tests = [[
# A member who asks for everything

```khp
C binary
| GET /echo HTTP/1.1
| Sec-WebSocket-Protocol: chat, echo
| Sec-WebSocket-Extensions: x-echo-pace
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
* Server, Date and so on
|
+ Members only.\n
C binary
| GET /echo HTTP/1.1
| Authorization: Basic am9lOm9wZW4gc2VzYW1l
| Sec-WebSocket-Protocol: chat, echo
| Sec-WebSocket-Extensions: x-echo-pace
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
| Sec-WebSocket-Protocol: echo
| Sec-WebSocket-Extensions: x-echo-pace; ms=5
* Server, Date
|
S opens protocol=echo extensions=x-echo-pace; ms=5
```

# A wrong password

```khp
C binary
| GET /echo HTTP/1.1
| Authorization: Basic am9lOndyb25n
|
S binary
| HTTP/1.1 401 Unauthorized
* the same as before
```
]],
}
