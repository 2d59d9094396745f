-- A client's policy: Joe sends his password once. A second 401 means that it is wrong.

return {
  challenge = function(challenge, attempt)
    if challenge.scheme == "Basic" and attempt == 1 then
      return { username = "joe", password = "open sesame" }
    end
  end,

  tests = [[
# The password is given once

```khp
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
|
C binary
| GET /echo HTTP/1.1
| Authorization: Basic am9lOm9wZW4gc2VzYW1l
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members"
|
C fails EAUTH status=401 attempts=2 permanent
C close 1011 the server asks for credentials (Basic, realm "members"): no credentials
```
]],
}
