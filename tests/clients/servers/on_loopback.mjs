// server-everything has no setting for its address: without this it would listen on all of them.
import net from "node:net";

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, Number(port), "127.0.0.1", ...rest.filter((part) => typeof part === "function"));
};
