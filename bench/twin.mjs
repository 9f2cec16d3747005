// The twin: the same connection manager in plain JavaScript, without its timer.
export class TwinConnectionManager {
  connections = new Map();
  connectionsByIp = new Map();
  connectionsByUser = new Map();
  constructor(config) {
    this.config = config;
  }
  addConnection(id, socket, ip, userId) {
    if (this.connections.size >= this.config.maxTotalConnections)
      return { success: false, reason: 'Max total connections exceeded' };
    const ipConnections = this.connectionsByIp.get(ip) || new Set();
    if (ipConnections.size >= this.config.maxConnectionsPerIp)
      return { success: false, reason: 'Max connections per IP exceeded' };
    if (userId) {
      const userConnections = this.connectionsByUser.get(userId) || new Set();
      if (userConnections.size >= this.config.maxConnectionsPerUser)
        return { success: false, reason: 'Max connections per user exceeded' };
    }
    const connection = {
      id,
      socket,
      ip,
      userId,
      createdAt: Date.now(),
      lastActivity: Date.now(),
      isAlive: true,
      messageCount: 0,
      bytesReceived: 0,
      bytesSent: 0,
    };
    this.connections.set(id, connection);
    if (!this.connectionsByIp.has(ip)) this.connectionsByIp.set(ip, new Set());
    this.connectionsByIp.get(ip).add(id);
    if (userId) {
      if (!this.connectionsByUser.has(userId)) this.connectionsByUser.set(userId, new Set());
      this.connectionsByUser.get(userId).add(id);
    }
    return { success: true };
  }
  removeConnection(id) {
    const connection = this.connections.get(id);
    if (!connection) return false;
    this.connections.delete(id);
    const ipConnections = this.connectionsByIp.get(connection.ip);
    if (ipConnections) {
      ipConnections.delete(id);
      if (ipConnections.size === 0) this.connectionsByIp.delete(connection.ip);
    }
    if (connection.userId) {
      const userConnections = this.connectionsByUser.get(connection.userId);
      if (userConnections) {
        userConnections.delete(id);
        if (userConnections.size === 0) this.connectionsByUser.delete(connection.userId);
      }
    }
    return true;
  }
  updateActivity(id) {
    const connection = this.connections.get(id);
    if (connection) connection.lastActivity = Date.now();
  }
  cleanupStaleConnections() {
    const now = Date.now();
    const staleConnections = [];
    for (const [id, connection] of this.connections) {
      if (now - connection.lastActivity > this.config.connectionTimeoutMs)
        staleConnections.push(id);
    }
    for (const id of staleConnections) {
      const connection = this.connections.get(id);
      if (!connection) continue;
      try {
        connection.socket.close(1001, 'Connection timeout');
      } catch {
        // The design ignores errors of `close`.
      }
      this.removeConnection(id);
    }
    return staleConnections.length;
  }
}
