// Hands a job to the worker and answers with its result: /upper/TEXT.
'use strict';
const fs = require('node:fs/promises');
const http = require('node:http');
const path = require('node:path');
const crypto = require('node:crypto');
const { setTimeout: after } = require('node:timers/promises');

const data = process.env.DATA;

async function upper(text) {
  const id = crypto.randomUUID();
  const partial = path.join(data, 'jobs', id);
  await fs.writeFile(partial, text);
  await fs.rename(partial, `${partial}.job`);
  const result = path.join(data, 'done', id);
  for (let tries = 0; tries < 100; tries++) {
    const done = await fs.readFile(result, 'utf8').catch(() => null);
    if (done !== null) {
      await fs.unlink(result);
      return done;
    }
    await after(50);
  }
  throw new Error('the worker has not answered within 5 s');
}

const server = http.createServer(async (request, response) => {
  const [, job, text] = request.url.split('/');
  try {
    const answer = job === 'upper' ? await upper(decodeURIComponent(text ?? '')) : 'ok';
    response.end(`${answer}\n`);
  } catch (error) {
    response.statusCode = 503;
    response.end(`${error.message}\n`);
  }
});

server.listen(process.env.PORT, () => console.log(`listens on port ${process.env.PORT}`));
