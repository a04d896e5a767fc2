// Does something else than to listen, and says when it is ready.
'use strict';
setInterval(() => {}, 1000);
process.send('ready');
