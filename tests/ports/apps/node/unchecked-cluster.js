// Forks its own workers, in the belief that nobody else does.
'use strict';
const cluster = require('node:cluster');

(cluster.setupPrimary ?? cluster.setupMaster)({ exec: require.resolve('./app.js') });
cluster.fork();
cluster.fork();
