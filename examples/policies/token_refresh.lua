-- A client's policy: sends its access token with the first request. When that has expired and the server answers 401,
-- gets a new one from the login server and tries once more. Tokens are sent to our own servers only.

local LOGIN = "https://login.example.com/token"

local function is_ours(url)
  local parsed = require("khp.uri").parse(url)
  return parsed ~= nil and parsed.secure and parsed.host == "api.example.com"
end

return {
  request = function(request, attempt, session)
    local token = session.env.ACCESS_TOKEN
    if attempt == 1 and token and is_ours(request.url) then
      return { headers = { Authorization = "Bearer " .. token } }
    end
  end,
  challenge = function(asked, attempt, session)
    if asked.scheme ~= "Bearer" or attempt > 1 or not is_ours(asked.location) then
      return nil
    end
    local answer = session:fetch(LOGIN, {
      method = "POST",
      headers = { ["Content-Type"] = "application/x-www-form-urlencoded" },
      body = "grant_type=refresh_token&refresh_token=" .. (session.env.REFRESH_TOKEN or ""),
    })
    local token = answer and answer.status == 200 and answer.body:match '"access_token"%s*:%s*"([^"]+)"'
    return token and { token = token } or nil
  end,

  tests = [[
```khp opening
given url=wss://api.example.com/feed, env.ACCESS_TOKEN=old, env.REFRESH_TOKEN=77
```

# The token is still good

```khp
C binary
| GET /feed HTTP/1.1
| Authorization: Bearer old
|
S binary
| HTTP/1.1 101 Switching Protocols
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
|
C opens
```

# The token has expired

```khp
C binary
| GET /feed HTTP/1.1
| Authorization: Bearer old
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Bearer realm="feed", error="invalid_token"
|
C asks POST https://login.example.com/token
| HTTP/1.1 200 OK
| Content-Type: application/json
| Content-Length: 27
|
+ {"access_token": "new12345"}
C binary
| GET /feed HTTP/1.1
| Authorization: Bearer new12345
|
S binary
| HTTP/1.1 101 Switching Protocols
| Upgrade: websocket
| Connection: Upgrade
| Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=
|
C opens
```

# The login server refuses, too

```khp
C binary
| GET /feed HTTP/1.1
| Authorization: Bearer old
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Bearer realm="feed", error="invalid_token"
|
C asks POST https://login.example.com/token
| HTTP/1.1 400 Bad Request
|
C fails EAUTH status=401 permanent
C close 1011 the server asks for credentials (Bearer, realm "feed"): no credentials
```

# Another server

```khp
given url=wss://api.example.org/feed
C binary
| GET /feed HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Bearer realm="feed"
|
C fails EAUTH status=401
C close 1011 the server asks for credentials (Bearer, realm "feed"): no credentials
```
]],
}
