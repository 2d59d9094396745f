rockspec_format = "3.0"
package = "khp"
version = "scm-1"

description = {
  summary = "WebSocket client and server whose handshake is a program",
  detailed = [[
khp is a WebSocket library that speaks the Kaazing WebSocket Handshake Protocol: after the ordinary opening, client and
server exchange HTTP messages inside the socket, and Lua policies on both sides decide about challenges, redirects and
extensions. With a peer that does not speak it, khp is a fast and complete WebSocket library.]],
  license = "MIT",
}

source = {
  url = "git+file://.",
}

supported_platforms = { "linux", "macosx", "bsd" }

dependencies = {
  "lua >= 5.4, < 5.5",
  "argparse >= 0.7", -- of the command line alone
}

test_dependencies = {
  "busted >= 2.1",
}

test = {
  type = "busted",
}

external_dependencies = {
  LIBWEBSOCKETS = { header = "libwebsockets.h", library = "websockets" },
  LIBUV = { header = "uv.h", library = "uv" },
  OPENSSL = { header = "openssl/ssl.h", library = "ssl" },
  LIBCRYPTO = { header = "openssl/evp.h", library = "crypto" },
  ZLIB = { header = "zlib.h", library = "z" },
}

-- The lists of files are written by `make rockspec`.
build = {
  type = "builtin",
  modules = {
    ["khp.core"] = {
      sources = {
        "csrc/core/connection.c",
        "csrc/core/send.c",
        "csrc/core/settings.c",
        "csrc/http/body.c",
        "csrc/http/challenge.c",
        "csrc/http/date.c",
        "csrc/http/error.c",
        "csrc/http/framing.c",
        "csrc/http/grammar.c",
        "csrc/http/head.c",
        "csrc/http/line.c",
        "csrc/http/status.c",
        "csrc/http/text.c",
        "csrc/http/writer.c",
        "csrc/lua/budget.c",
        "csrc/lua/conn.c",
        "csrc/lua/conn_events.c",
        "csrc/lua/conn_pipe.c",
        "csrc/lua/crypto.c",
        "csrc/lua/deflate.c",
        "csrc/lua/descriptor.c",
        "csrc/lua/files.c",
        "csrc/lua/http.c",
        "csrc/lua/http_grammar.c",
        "csrc/lua/http_headers.c",
        "csrc/lua/http_message.c",
        "csrc/lua/http_parser.c",
        "csrc/lua/http_write.c",
        "csrc/lua/listener.c",
        "csrc/lua/loop.c",
        "csrc/lua/module.c",
        "csrc/lua/options.c",
        "csrc/lua/signal.c",
        "csrc/lua/timer.c",
        "csrc/lua/tls.c",
        "csrc/net/address.c",
        "csrc/net/batch.c",
        "csrc/net/connector.c",
        "csrc/net/error.c",
        "csrc/net/listener.c",
        "csrc/net/loop.c",
        "csrc/net/queue.c",
        "csrc/net/reactor.c",
        "csrc/net/signal.c",
        "csrc/net/stream.c",
        "csrc/net/stream_io.c",
        "csrc/net/timer.c",
        "csrc/net/tls.c",
        "csrc/net/tls_explain.c",
        "csrc/net/tls_stream.c",
        "csrc/net/watch.c",
        "csrc/ws/crypto.c",
        "csrc/ws/deflate.c",
        "csrc/ws/frame.c",
        "csrc/ws/reader.c",
        "csrc/ws/utf8.c",
      },
      defines = { "_GNU_SOURCE" },
      incdirs = {
        "csrc", "$(LIBWEBSOCKETS_INCDIR)", "$(LIBUV_INCDIR)", "$(OPENSSL_INCDIR)", "$(LIBCRYPTO_INCDIR)",
        "$(ZLIB_INCDIR)",
      },
      libdirs = {
        "$(LIBWEBSOCKETS_LIBDIR)", "$(LIBUV_LIBDIR)", "$(OPENSSL_LIBDIR)", "$(LIBCRYPTO_LIBDIR)",
        "$(ZLIB_LIBDIR)",
      },
      libraries = { "websockets", "uv", "ssl", "crypto", "z" },
    },
    -- Lua
    ["khp"] = "lua/khp/init.lua",
    ["khp.attempt"] = "lua/khp/attempt.lua",
    ["khp.auth"] = "lua/khp/auth/init.lua",
    ["khp.auth.basic"] = "lua/khp/auth/basic.lua",
    ["khp.auth.bearer"] = "lua/khp/auth/bearer.lua",
    ["khp.auth.digest"] = "lua/khp/auth/digest.lua",
    ["khp.auth.digest_server"] = "lua/khp/auth/digest_server.lua",
    ["khp.auth.htpasswd"] = "lua/khp/auth/htpasswd.lua",
    ["khp.auth.nonces"] = "lua/khp/auth/nonces.lua",
    ["khp.auth.users"] = "lua/khp/auth/users.lua",
    ["khp.cli"] = "lua/khp/cli/init.lua",
    ["khp.cli.check"] = "lua/khp/cli/check.lua",
    ["khp.cli.completion"] = "lua/khp/cli/completion.lua",
    ["khp.cli.frame"] = "lua/khp/cli/frame.lua",
    ["khp.cli.limits"] = "lua/khp/cli/limits.lua",
    ["khp.cli.serve"] = "lua/khp/cli/serve.lua",
    ["khp.client"] = "lua/khp/client.lua",
    ["khp.connection"] = "lua/khp/connection.lua",
    ["khp.credentials"] = "lua/khp/credentials.lua",
    ["khp.crypto"] = "lua/khp/crypto.lua",
    ["khp.errors"] = "lua/khp/errors.lua",
    ["khp.extended.assembly"] = "lua/khp/extended/assembly.lua",
    ["khp.extended.client"] = "lua/khp/extended/client.lua",
    ["khp.extended.reason"] = "lua/khp/extended/reason.lua",
    ["khp.extended.request"] = "lua/khp/extended/request.lua",
    ["khp.extended.response"] = "lua/khp/extended/response.lua",
    ["khp.extended.server"] = "lua/khp/extended/server.lua",
    ["khp.extended.verify"] = "lua/khp/extended/verify.lua",
    ["khp.extension"] = "lua/khp/extension/init.lua",
    ["khp.extension.idle_timeout"] = "lua/khp/extension/idle_timeout.lua",
    ["khp.extension.permessage_deflate"] = "lua/khp/extension/permessage_deflate.lua",
    ["khp.extension.ping_pong"] = "lua/khp/extension/ping_pong.lua",
    ["khp.extension.pipeline"] = "lua/khp/extension/pipeline.lua",
    ["khp.fetch"] = "lua/khp/fetch.lua",
    ["khp.http"] = "lua/khp/http.lua",
    ["khp.limits"] = "lua/khp/limits.lua",
    ["khp.listening"] = "lua/khp/listening.lua",
    ["khp.log"] = "lua/khp/log.lua",
    ["khp.opening.client"] = "lua/khp/opening/client.lua",
    ["khp.opening.common"] = "lua/khp/opening/common.lua",
    ["khp.opening.proxy"] = "lua/khp/opening/proxy.lua",
    ["khp.opening.reader"] = "lua/khp/opening/reader.lua",
    ["khp.opening.request"] = "lua/khp/opening/request.lua",
    ["khp.opening.server"] = "lua/khp/opening/server.lua",
    ["khp.options"] = "lua/khp/options.lua",
    ["khp.origin"] = "lua/khp/origin.lua",
    ["khp.policy"] = "lua/khp/policy/init.lua",
    ["khp.policy.answer"] = "lua/khp/policy/answer.lua",
    ["khp.policy.contract"] = "lua/khp/policy/contract.lua",
    ["khp.policy.decision"] = "lua/khp/policy/decision.lua",
    ["khp.policy.hooks"] = "lua/khp/policy/hooks.lua",
    ["khp.policy.library"] = "lua/khp/policy/library.lua",
    ["khp.policy.pattern"] = "lua/khp/policy/pattern.lua",
    ["khp.policy.sandbox"] = "lua/khp/policy/sandbox.lua",
    ["khp.policy.session"] = "lua/khp/policy/session.lua",
    ["khp.policy.test"] = "lua/khp/policy/test/init.lua",
    ["khp.policy.test.client"] = "lua/khp/policy/test/client.lua",
    ["khp.policy.test.server"] = "lua/khp/policy/test/server.lua",
    ["khp.policy.test.steps"] = "lua/khp/policy/test/steps.lua",
    ["khp.policy.test.world"] = "lua/khp/policy/test/world.lua",
    ["khp.policy.world"] = "lua/khp/policy/world.lua",
    ["khp.promise"] = "lua/khp/promise.lua",
    ["khp.reception"] = "lua/khp/reception.lua",
    ["khp.redirect"] = "lua/khp/redirect.lua",
    ["khp.routes"] = "lua/khp/routes.lua",
    ["khp.server"] = "lua/khp/server.lua",
    ["khp.static"] = "lua/khp/static.lua",
    ["khp.status"] = "lua/khp/status.lua",
    ["khp.task"] = "lua/khp/task.lua",
    ["khp.tls"] = "lua/khp/tls.lua",
    ["khp.transcript"] = "lua/khp/transcript/init.lua",
    ["khp.transcript.compare"] = "lua/khp/transcript/compare.lua",
    ["khp.transcript.player"] = "lua/khp/transcript/player.lua",
    ["khp.transcript.reader"] = "lua/khp/transcript/reader.lua",
    ["khp.uri"] = "lua/khp/uri.lua",
  },
  install = {
    bin = {
      khp = "bin/khp",
    },
  },
  copy_directories = { "docs" },
}
