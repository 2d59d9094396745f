-- A server's policy: redirects clients with the cookie "canary=yes" to the server that runs the next version; all
-- others stay here.

local CANARY = "wss://canary.example.com"

local function has_cookie(header, wanted)
  for cookie in (header or ""):gmatch "[^;%s]+" do
    if cookie == wanted then
      return true
    end
  end
  return false
end

return {
  extended = function(request, session)
    if has_cookie(session.opening.headers.cookie, "canary=yes") then
      return redirect(CANARY .. request.target)
    end
    return accept { protocol = request.protocols[1] }
  end,

  tests = [[
# With the cookie

```khp
C http
| GET /app HTTP/1.1
| Host: example.com
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
| Sec-WebSocket-Version: 13
| Sec-WebSocket-Protocol: x-kaazing-handshake
| Cookie: theme=dark; canary=yes
|
C binary
| GET /app HTTP/1.1
|
S binary
| HTTP/1.1 302 Found
| Location: wss://canary.example.com/app
* Server, Date and so on
S close 1000
```

# Without the cookie

```khp
C binary
| GET /app HTTP/1.1
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```
]],
}
