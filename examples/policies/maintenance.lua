-- A server's policy for maintenance: connected clients stay; new ones may connect from this machine only. Replace the
-- server's policy with this one and reload; afterwards restore the ordinary policy and reload.

local ordinary = require "members"

local here = { ["127.0.0.1"] = true, ["::1"] = true }

return {
  opening = function(_, session)
    if not here[session.peer.host] then
      return reject(503, { headers = { ["Retry-After"] = "600" }, body = "Back in ten minutes.\n" })
    end
  end,
  extended = ordinary.extended,

  tests = [[
# From elsewhere

```khp opening
C http
| GET /echo HTTP/1.1
| Host: example.com
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
| Sec-WebSocket-Version: 13
| Sec-WebSocket-Protocol: x-kaazing-handshake
|
```

```khp
S http
| HTTP/1.1 503 Service Unavailable
| Retry-After: 600
* Connection and so on
|
+ Back in ten minutes.\n
```

# From this machine

```khp
given peer=127.0.0.1
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
* Server, Date and so on
```
]],
}
