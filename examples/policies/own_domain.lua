-- A client's policy: follows only redirects that use TLS and stay within our domain.

local DOMAIN = "example.com"

return {
  redirect = function(location)
    local to = require("khp.uri").parse(location)
    local host = to and to.secure and to.host or ""
    return host == DOMAIN or host:sub(-#DOMAIN - 1) == "." .. DOMAIN
  end,

  tests = [[
# Within the domain

```khp
given url=wss://www.example.com/feed
C binary
| GET /feed HTTP/1.1
|
S binary
| HTTP/1.1 302 Found
| Location: wss://node1.example.com/feed
|
C redirects wss://node1.example.com/feed
C close 1000
```

# A name that just ends like ours

```khp
given url=wss://www.example.com/feed
C binary
| GET /feed HTTP/1.1
|
S binary
| HTTP/1.1 302 Found
| Location: wss://badexample.com/feed
|
C fails EREDIRECT status=302
C close 1000
```

# Not over TLS

```khp
given url=ws://www.example.com/feed
C binary
| GET /feed HTTP/1.1
|
S binary
| HTTP/1.1 302 Found
| Location: ws://node1.example.com/feed
|
C fails EREDIRECT
C close 1000
```
]],
}
