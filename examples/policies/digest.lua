-- A server's policy: members only, and no password is ever sent. With Digest, a client proves that it knows the
-- password; each answer is valid once.

local members = { joe = "open sesame", ann = "swordfish" }

return {
  extended = function(request, session)
    local user, asked = session:digest(request, members, { realm = "members" })
    if not user then
      return challenge(asked)
    end
    session.data.user = user
    return accept { protocol = request.protocols[1] }
  end,

  tests = [[
# An answer is valid once

The random bytes of a test count from 00 on, so that its nonces are always the same.

```khp
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
| WWW-Authenticate: Digest realm="members", qop="auth", algorithm=SHA-256, nonce="6b02d940-202122232425262728292a2b-a93b09352431e53c42c531e554e1bbf3", charset=UTF-8
| WWW-Authenticate: Digest realm="members", qop="auth", algorithm=MD5, nonce="6b02d940-202122232425262728292a2b-a93b09352431e53c42c531e554e1bbf3", charset=UTF-8
* Server, Date and so on
C binary
| GET /echo HTTP/1.1
| Authorization: Digest username="joe", realm="members", nonce="6b02d940-202122232425262728292a2b-a93b09352431e53c42c531e554e1bbf3", uri="/echo", algorithm=SHA-256, response="b6ef3fb28b69238881223526cbd5c33e5582e4c7cbcf7afd311fa3b942d45d99", qop=auth, nc=00000001, cnonce="7kNq2bVx"
|
S binary
| HTTP/1.1 101 Switching Protocols
* Upgrade and so on
S opens
```

```khp
C binary
| GET /echo HTTP/1.1
| Authorization: Digest username="joe", realm="members", nonce="6b02d940-202122232425262728292a2b-a93b09352431e53c42c531e554e1bbf3", uri="/echo", algorithm=SHA-256, response="b6ef3fb28b69238881223526cbd5c33e5582e4c7cbcf7afd311fa3b942d45d99", qop=auth, nc=00000001, cnonce="7kNq2bVx"
|
S binary
| HTTP/1.1 401 Unauthorized
* two challenges with a new nonce and stale=true
```

# Five minutes later the nonce is too old

```khp
C binary
| GET /echo HTTP/1.1
|
S binary
| HTTP/1.1 401 Unauthorized
* two challenges
```

```khp
wait 300
C binary
| GET /echo HTTP/1.1
| Authorization: Digest username="joe", realm="members", nonce="6b02d940-202122232425262728292a2b-a93b09352431e53c42c531e554e1bbf3", uri="/echo", algorithm=SHA-256, response="b6ef3fb28b69238881223526cbd5c33e5582e4c7cbcf7afd311fa3b942d45d99", qop=auth, nc=00000001, cnonce="7kNq2bVx"
|
S binary
| HTTP/1.1 401 Unauthorized
* two challenges with a new nonce and stale=true
```
]],
}
