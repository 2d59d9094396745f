-- A server's policy: asks clients that speak only the first version of the subprotocol to upgrade. RFC 7231 6.5.15: the
-- Upgrade header of a 426 names what the client needs.

local function offers(request, name)
  for _, offered in ipairs(request.protocols) do
    if offered == name then
      return true
    end
  end
  return false
end

return {
  extended = function(request)
    if not offers(request, "chat.v2") then
      return reject(426, {
        headers = { Upgrade = "chat/2" },
        body = "This client is too old: please install version 2 or later.\n",
      })
    end
    return accept { protocol = "chat.v2" }
  end,

  tests = [[
# An old client

```khp
C binary
| GET /chat HTTP/1.1
| Sec-WebSocket-Protocol: chat.v1
|
S binary
| HTTP/1.1 426 Upgrade Required
| Upgrade: chat/2
* Server, Date and so on
|
+ This client is too old: please install version 2 or later.\n
S close 1000
```

# A client that speaks both

```khp
C binary
| GET /chat HTTP/1.1
| Sec-WebSocket-Protocol: chat.v1, chat.v2
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens protocol=chat.v2
```
]],
}
