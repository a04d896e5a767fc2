// Node's own primary, to compare with: primary.js APP [WORKERS].
'use strict';
const cluster = require('node:cluster');

const [app, workers = '1'] = process.argv.slice(2);
(cluster.setupPrimary ?? cluster.setupMaster)({ exec: app, args: [] });
for (let n = 0; n < Number(workers); n++) cluster.fork();
