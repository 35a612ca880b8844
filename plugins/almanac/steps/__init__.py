"""What spark-submit starts. A folder of its own: the folder of a script comes first on the path of imports."""
