<?php
// php -S 127.0.0.1:PORT index.php
echo 'pid ', getmypid(), "\n";
