"""SQL Server, Azure SQL Database and Managed Instance."""
