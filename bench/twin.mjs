// The yardstick: the plan's connection manager as plain objects, maps and sets.
export class TwinConnectionManager {
  connections = new Map();
  byIp = new Map();
  byUser = new Map();
  constructor(config) {
    this.config = config;
  }
  addConnection(id, socket, ip, userId) {
    if (this.connections.size >= this.config.maxTotalConnections) return { success: false, reason: 'Max total connections exceeded' };
    if ((this.byIp.get(ip)?.size ?? 0) >= this.config.maxConnectionsPerIp) return { success: false, reason: 'Max connections per IP exceeded' };
    if (userId && (this.byUser.get(userId)?.size ?? 0) >= this.config.maxConnectionsPerUser) {
      return { success: false, reason: 'Max connections per user exceeded' };
    }
    const now = Date.now();
    this.connections.set(id, {
      id,
      socket,
      ip,
      userId,
      createdAt: now,
      lastActivity: now,
      isAlive: true,
      messageCount: 0,
      bytesReceived: 0,
      bytesSent: 0,
    });
    for (const [index, key] of [
      [this.byIp, ip],
      [this.byUser, userId],
    ]) {
      if (!key) continue;
      if (!index.has(key)) index.set(key, new Set());
      index.get(key).add(id);
    }
    return { success: true };
  }
  removeConnection(id) {
    const connection = this.connections.get(id);
    if (!connection) return false;
    this.connections.delete(id);
    for (const [index, key] of [
      [this.byIp, connection.ip],
      [this.byUser, connection.userId],
    ]) {
      const ids = key && index.get(key);
      if (ids && ids.delete(id) && ids.size === 0) index.delete(key);
    }
    return true;
  }
  updateActivity(id) {
    const connection = this.connections.get(id);
    if (connection) connection.lastActivity = Date.now();
  }
}
