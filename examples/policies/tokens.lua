-- A server's policy: accepts clients with a token. The challenge has two forms: Bearer, and Kaazing's "Application
-- Token", which a client answers with "Token". The prefix keeps a browser from asking its user for a password.

local holders = { ["5f0c1b6e"] = "joe", ["a77d90e2"] = "ann" }

return {
  extended = function(request, session)
    local user = session:bearer(request, function(token)
      return holders[token]
    end)
    if not user then
      return challenge { 'Bearer realm="api"', 'Application Token realm="api"' }
    end
    session.data.user = user
    return accept { protocol = request.protocols[1] }
  end,

  tests = [[
# The Bearer form

```khp
C binary
| GET /api HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Bearer realm="api"
| WWW-Authenticate: Application Token realm="api"
* Server, Date and so on
C binary
| GET /api HTTP/1.1
| Authorization: Bearer 5f0c1b6e
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

# Kaazing's form

```khp
C binary
| GET /api HTTP/1.1
| Authorization: Token a77d90e2
| Sec-WebSocket-Protocol: chat
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens protocol=chat
```

# An unknown token

```khp
C binary
| GET /api HTTP/1.1
| Authorization: Bearer 0
|
S binary
| HTTP/1.1 401 Unauthorized
* the same as before
```
]],
}
