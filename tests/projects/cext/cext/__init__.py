from cext._fast import answer
