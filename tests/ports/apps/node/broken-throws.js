throw new Error('the new version throws at start');
