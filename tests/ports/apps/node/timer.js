// A server in a process that something else keeps alive too.
'use strict';
setInterval(() => {}, 1000);
require('./app.js');
