-- A server's policy: members only, with names and passwords from a file that Apache's htpasswd writes. The file is
-- read when the policy is loaded: reload the policy after a change.

local members = assert(require("khp.auth.htpasswd").load "members.htpasswd")

return {
  extended = function(request, session)
    local user = session:basic(request, members)
    if not user then
      return challenge 'Basic realm="members", charset="UTF-8"'
    end
    session.data.user = user
    return accept { protocol = request.protocols[1] }
  end,

  tests = [[
# Both kinds of hashes

```khp
C binary
| GET /echo HTTP/1.1
| Authorization: Basic am9lOm9wZW4gc2VzYW1l
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

```khp
C binary
| GET /echo HTTP/1.1
| Authorization: Basic YW5uOnN3b3JkZmlzaA==
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

# A wrong password

```khp
C binary
| GET /echo HTTP/1.1
| Authorization: Basic YW5uOm9wZW4gc2VzYW1l
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Basic realm="members", charset="UTF-8"
* Server, Date and so on
```
]],
}
