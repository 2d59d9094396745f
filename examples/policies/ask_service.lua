-- A server's policy: a second server decides, over HTTP. It gets the client's token, and answers 200 with the user's
-- name, or another status. Other connections are not delayed. Without an answer, the client is rejected.

local SERVICE = "https://accounts.example.com/check"

local function as_it_is(token)
  return token
end

return {
  extended = function(request, session)
    local token = session:bearer(request, as_it_is)
    if not token then
      return challenge 'Bearer realm="api"'
    end
    local answer = session:fetch(SERVICE, { headers = { Authorization = "Bearer " .. token }, timeout = 3 })
    if not answer or answer.status >= 500 then
      return reject(503, { headers = { ["Retry-After"] = "5" } })
    elseif answer.status ~= 200 then
      return challenge 'Bearer realm="api", error="invalid_token"'
    end
    session.data.user = answer.body
    return accept { protocol = request.protocols[1] }
  end,

  tests = [[
# The service knows the token

```khp
C binary
| GET /api HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Bearer realm="api"
* Server, Date and so on
C binary
| GET /api HTTP/1.1
| Authorization: Bearer 5f0c1b6e
|
S asks https://accounts.example.com/check
| HTTP/1.1 200 OK
| Content-Length: 3
|
+ joe
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

# The service does not know the token

```khp
C binary
| GET /api HTTP/1.1
| Authorization: Bearer 0
|
S asks https://accounts.example.com/check
| HTTP/1.1 403 Forbidden
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Bearer realm="api", error="invalid_token"
* Server, Date and so on
```

# The service cannot be reached

```khp
C binary
| GET /api HTTP/1.1
| Authorization: Bearer 5f0c1b6e
|
S asks https://accounts.example.com/check
S binary
| HTTP/1.1 503 Service Unavailable
| Retry-After: 5
* Server, Date and so on
S close 1000
```

# The service takes too long

```khp
C binary
| GET /api HTTP/1.1
| Authorization: Bearer 5f0c1b6e
|
wait 3
S asks https://accounts.example.com/check
S binary
| HTTP/1.1 503 Service Unavailable
* Retry-After and so on
S close 1000
```
]],
}
